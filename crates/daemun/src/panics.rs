//! What is told of a panic: where it is, and what it says only where that is part of the program. A text that was made up at run time may
//! hold what a client sent, or what the configuration keeps secret: the slice of a text that does not end between letters says all of it.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::time::Duration;

use daemun_dataplane::record::Events;

/// Has every panic told on standard error, in a line of its own.
pub(crate) fn tell_on_stderr() {
    std::panic::set_hook(Box::new(|panic| {
        // there is nowhere to say what cannot be said there
        let _ = writeln!(io::stderr(), "error: the program failed in {}", told(panic));
    }));
}

/// Has every panic told as an event instead; one that ends the process waits so long for it to be written.
pub(crate) fn tell_as_events(events: Events, within: Duration) {
    std::panic::set_hook(Box::new(move |panic| {
        events.error("panic", format_args!("{}", told(panic)));
        // a worker goes on, and must not wait for who reads this
        if std::thread::current().name().is_none_or(|name| !name.starts_with("worker-")) {
            let _ = events.flush(within);
        }
    }));
}

fn told(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    format!("thread `{name}` at {place}: {}", said(panic.payload()))
}

fn said(payload: &dyn std::any::Any) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("something happened that should not")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::process::Command;

    use daemun_dataplane::Clock;

    use super::*;

    /// How the process that panics tells of it.
    const HOW: &str = "DAEMUN_TEST_PANICS";
    const SECRET: &str = "DAEMUN_TEST_SECRET";

    #[test]
    fn what_a_panic_says_is_told_only_where_it_is_part_of_the_program() {
        let secret = format!("no such key `{}`", "secret");
        for (panic, wanted) in [
            (catch_unwind(|| panic!("a fixed text")), "a fixed text"),
            (catch_unwind(|| panic!("{secret}")), "something happened that should not"),
        ] {
            assert_eq!(said(&*panic.unwrap_err()), wanted);
        }
    }

    /// Panics in all the ways that say something of a secret, and ends.
    fn panic_with(secret: &str, how: &str) -> ! {
        match how {
            "stderr" => tell_on_stderr(),
            "events" => tell_as_events(Events::stderr(Clock::system()).unwrap(), Duration::from_secs(60)),
            _ => {}
        }
        let panics: [fn(&str); 5] = [
            |secret| panic!("cannot go on with {secret}"),
            |secret| drop(secret.get(..1).map(str::to_owned).ok_or(secret).expect("a fixed beginning")),
            |secret| _ = secret.parse::<u8>().map_err(|_| secret.to_owned()).unwrap(),
            |secret| drop(secret[1..].to_owned()),
            |secret| assert_eq!(secret, "another"),
        ];
        for panic in panics {
            assert!(catch_unwind(|| panic(secret)).is_err());
            let (of_thread, secret) = (std::thread::Builder::new().name("worker-0".to_owned()), secret.to_owned());
            let _ = of_thread.spawn(move || panic(&secret)).unwrap().join();
        }
        let _ = catch_unwind(|| panic!("the last of them"));
        std::process::exit(0)
    }

    #[test]
    fn no_secret_is_in_what_a_panicking_process_prints() {
        if let (Ok(how), Ok(secret)) = (std::env::var(HOW), std::env::var(SECRET)) {
            panic_with(&secret, &how);
        }
        // its first letter has two bytes, so that a slice from the second is none
        let secret = "ésame-öffne-dich-0123456789";
        for how in ["stderr", "events", "as Rust does"] {
            let mut process = Command::new(std::env::current_exe().unwrap());
            process.args(["--exact", "panics::tests::no_secret_is_in_what_a_panicking_process_prints", "--nocapture"]);
            let ended = process.env(HOW, how).env(SECRET, secret).env("RUST_BACKTRACE", "full").output().unwrap();
            let told = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
            assert!(ended.status.success(), "{how}: {told}");
            let holds = secret.split('-').any(|part| told.contains(part.trim_start_matches('é')));
            assert_eq!(holds, how == "as Rust does", "{how}: {told}");
            assert!(told.contains("panics.rs") && told.contains("the last of them"), "{how}: {told}");
            assert!(told.contains("worker-0"), "{how}: {told}");
        }
    }
}
