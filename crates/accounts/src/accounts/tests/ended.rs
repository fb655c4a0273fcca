//! What was ended before its time.

use super::*;

#[test]
fn what_was_ended_stays_so_in_every_process_and_after_a_restart_until_it_would_have_ended() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    let (long, brief) = ([7; 16], [8; 16]);
    wait(one.end(&long, NOW + 9 * MINUTE, NOW)).unwrap();
    wait(one.end(&brief, NOW + MINUTE, NOW)).unwrap();
    wait(other.look());
    for accounts in [&one, &other] {
        assert!(accounts.has_ended(&long) && accounts.has_ended(&brief) && !accounts.has_ended(&[9; 16]));
        assert_eq!(accounts.endings(), 2);
    }
    drop((one, other));
    let again = folder.open(NOW + 2 * MINUTE);
    assert!(again.has_ended(&long) && !again.has_ended(&brief));
    drop(again);
    let rows = || {
        let store = rusqlite::Connection::open(folder.0.join("daemun.db")).unwrap();
        store.query_row("SELECT count(*) FROM voids", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let mut store = folder.store();
    assert!(store.forget(NOW + 2 * MINUTE, 100).is_ok());
    assert_eq!(rows(), 1);
    assert!(store.forget(NOW + 10 * MINUTE, 100).is_ok());
    assert_eq!(rows(), 0);
}
