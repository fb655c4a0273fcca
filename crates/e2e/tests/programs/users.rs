//! Users of a real directory (OpenLDAP) and of a real database (PostgreSQL).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::{Certificates, Gateway, Origin, Response, wait_until};
use rustix::process::{Pid, kill_process};

use crate::peers::{PATIENCE, find, is_there};

/// `password`, by the reference implementation.
const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

/// A program that is ended by a signal when it is dropped, and all that it started with it.
struct Running(Child, Signal);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), self.1);
        let _ = self.0.wait();
    }
}

/// Where a program is, on `PATH` or where Debian puts it.
fn program(name: &str, elsewhere: &str) -> Option<PathBuf> {
    find(name).or_else(|| Some(Path::new(elsewhere).join(name)).filter(|path| path.is_file()))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", shown(&output.stdout), shown(&output.stderr));
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A gateway that gives tokens to users of a place, and lets them in with HTTP Basic.
fn gateway(origin: &Origin, source: &str) -> Gateway {
    let yaml = format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\nstore: memory\nupstreams: {{ origin: {{ targets: [\"{}\"] }} }}\n\
         tokens: {{ shop: {{ grants: [password], refresh: off, users: [embedded, {source}] }} }}\nroutes:\n  \
         - {{ name: login, match: {{ path: /auth }}, tokens: shop }}\n  \
         - {{ name: items, match: {{ prefix: /items }}, upstream: origin, policies: {{ token_auth: {{}} }} }}\n  \
         - {{ name: basic, match: {{ prefix: /basic }}, upstream: origin, policies: {{ basic_auth: {{ users: {source} }} }} }}\n\
         consumers: [{{ name: shop-app }}]\nusers: [{{ name: embedded, password: \"{HASH}\" }}]\n",
        origin.url()
    );
    Gateway::start(&yaml)
}

fn login(gateway: &Gateway, name: &str, password: &str) -> Response {
    let body = format!("grant_type=password&username={name}&password={password}");
    gateway.connect().call(format!(
        "POST /auth HTTP/1.1\r\nHost: e2e.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// What an upstream is told of a user who logs in: the name, and the roles.
fn told(gateway: &Gateway, origin: &Origin, name: &str, password: &str) -> (Option<String>, Option<String>) {
    let answer = login(gateway, name, password);
    assert_eq!(answer.status, 200, "{name}: {} {:?}", answer.text(), gateway.access_log().last());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let call = format!("GET /items HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    assert_eq!(gateway.connect().call(call).status, 200);
    origin.look(|log| {
        let request = log.requests.last().unwrap();
        (request.field("x-consumer-name").map(str::to_owned), request.field("x-consumer-roles").map(str::to_owned))
    })
}

fn refused(gateway: &Gateway, name: &str, password: &str) {
    let answer = login(gateway, name, password);
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"invalid_grant".into()), "{name}");
    assert_eq!(answer.json()["detail"], "the username or the password is not good here", "{name}");
}

/// A wrong password of `alice` and a name that nobody has take one check each, by what the place checks with, and are answered with the same
/// bytes.
fn takes_the_same_work(gateway: &Gateway, by: &str) {
    let checks = || {
        let metrics = gateway.metrics();
        ["hash", "bind"].map(|by| metrics.sum("daemun_password_checks_total", &[&format!("by=\"{by}\"")]))
    };
    let one = if by == "hash" { [1.0, 0.0] } else { [0.0, 1.0] };
    let answers = ["alice", "nobody"].map(|name| {
        let before = checks();
        let answer = login(gateway, name, "not-this-one");
        let after = checks();
        assert_eq!([after[0] - before[0], after[1] - before[1]], one, "{name}");
        answer.without_ids()
    });
    assert_eq!(answers[0], answers[1]);
}

/// `alice:s3cret-alice` and `alice:wrong` in base64.
fn basic(gateway: &Gateway, credentials: &str) -> u16 {
    let call = format!("GET /basic HTTP/1.1\r\nHost: e2e.test\r\nAuthorization: Basic {credentials}\r\n\r\n");
    gateway.connect().call(call).status
}

const LDIF: &str = "\
dn: dc=shop,dc=test
objectClass: dcObject
objectClass: organization
dc: shop
o: shop

dn: ou=people,dc=shop,dc=test
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=shop,dc=test
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=shop,dc=test
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
userPassword: s3cret-alice

dn: uid=bob,ou=people,dc=shop,dc=test
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
userPassword: s3cret-bob

dn: uid=shop-app,ou=people,dc=shop,dc=test
objectClass: inetOrgPerson
uid: shop-app
cn: Not the consumer
sn: C
userPassword: s3cret-c

dn: cn=clerks,ou=groups,dc=shop,dc=test
objectClass: groupOfNames
cn: clerks
member: uid=alice,ou=people,dc=shop,dc=test

dn: cn=bosses,ou=groups,dc=shop,dc=test
objectClass: groupOfNames
cn: bosses
member: uid=alice,ou=people,dc=shop,dc=test
member: uid=bob,ou=people,dc=shop,dc=test
";

fn certificates() -> Certificates {
    let certificates = Certificates::new();
    certificates.issue("directory", "ca", "DNS:localhost");
    certificates
}

/// A directory with `alice` and `bob`, and its address without scheme; TLS by `certificates`.
fn slapd(folder: &Folder, scheme: &str, certificates: &Certificates) -> (Running, String) {
    let (slapd, slapadd) = (program("slapd", "/usr/sbin").unwrap(), program("slapadd", "/usr/sbin").unwrap());
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let config = folder.write(
        "slapd.conf",
        format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {0}/pid\nTLSCertificateFile {1}\nTLSCertificateKeyFile {2}\n\
             disallow bind_anon\nrequire authc\ndatabase mdb\nmaxsize 10485760\nsuffix \"dc=shop,dc=test\"\nrootdn \"cn=admin,dc=shop,dc=test\"\n\
             rootpw s3cret-admin\ndirectory {0}/data\naccess to attrs=userPassword by anonymous auth by * none\naccess to * by dn=\"cn=admin,dc=shop,dc=test\" read by * none\n",
            folder.path().display(),
            certificates.path("directory.crt"),
            certificates.path("directory.key"),
        ),
    );
    let ldif = folder.write("data.ldif", LDIF);
    run(Command::new(slapadd).arg("-f").arg(&config).arg("-l").arg(ldif));
    // another program may take the port meanwhile: then another is tried
    for _ in 0..20 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = format!("localhost:{port}");
        let mut command = Command::new(&slapd);
        command.arg("-f").arg(&config).args(["-h", &format!("{scheme}://{address}/"), "-d", "0"]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn().unwrap(), Signal::KILL);
        let up = wait_until("the directory listens, or has ended", PATIENCE, || {
            if running.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(|_| true)
        });
        if up {
            return (running, address);
        }
    }
    panic!("no port for the directory");
}

const GROUPS: &str =
    "groups: { base: \"ou=groups,dc=shop,dc=test\" }, roles: { clerks: [clerk], bosses: [boss, clerk] }";
const SEARCHER: &str =
    "bind_dn: \"cn=admin,dc=shop,dc=test\", bind_password: s3cret-admin, base: \"ou=people,dc=shop,dc=test\"";

#[test]
fn users_of_a_directory_log_in_with_their_passwords_there() {
    let missing: Vec<&str> = if program("slapd", "/usr/sbin").is_some() { Vec::new() } else { vec!["slapd"] };
    if !is_there(&missing) {
        return;
    }
    let (folder, origin) = (Folder::new(), Origin::echo());
    let (directory, address) = slapd(&folder, "ldap", &certificates());
    let gateway = gateway(&origin, &format!("{{ ldap: {{ url: \"ldap://{address}\", {SEARCHER}, {GROUPS} }} }}"));
    let all = |name: &str, roles: &str| (Some(name.to_owned()), Some(roles.to_owned()));
    let roles = told(&gateway, &origin, "alice", "s3cret-alice");
    assert!(roles == all("alice", "clerk,boss") || roles == all("alice", "boss,clerk"), "{roles:?}");
    assert_eq!(told(&gateway, &origin, "BOB", "s3cret-bob"), all("bob", "boss,clerk"));
    assert_eq!(told(&gateway, &origin, "embedded", "password"), (Some("embedded".to_owned()), None));
    takes_the_same_work(&gateway, "bind");
    for (name, password) in [
        ("alice", "s3cret-bob"),
        ("alice", "%00"),
        ("nobody", "s3cret-alice"),
        // what would find somebody if it were not escaped
        ("*", "s3cret-alice"),
        ("al*", "s3cret-alice"),
    ] {
        refused(&gateway, name, password);
    }
    for (name, password) in [("alice)(uid=*", "s3cret-alice"), ("shop-app", "s3cret-c"), ("%20alice", "s3cret-alice")] {
        refused(&gateway, name, password);
    }
    // `shop-app:s3cret-c`: whoever has a consumer's name in the directory is not that consumer
    assert_eq!(basic(&gateway, "c2hvcC1hcHA6czNjcmV0LWM="), 401);
    let empty = login(&gateway, "alice", "");
    assert_eq!((empty.status, &empty.json()["error"]), (400, &"invalid_request".into()));
    let log = gateway.access_log().iter().map(ToString::to_string).collect::<String>();
    assert!(!log.contains("s3cret"), "{log}");
    drop(directory);
    let down = login(&gateway, "bob", "s3cret-bob");
    assert_eq!(
        (down.status, &down.json()["error"]),
        (503, &"temporarily_unavailable".into()),
        "who cannot be asked for is not let in"
    );
    assert!(!down.text().contains("localhost"), "{}", down.text());
}

#[test]
fn a_directory_is_asked_over_tls_and_must_prove_who_it_is() {
    let missing: Vec<&str> = if program("slapd", "/usr/sbin").is_some() { Vec::new() } else { vec!["slapd"] };
    if !is_there(&missing) {
        return;
    }
    let certificates = certificates();
    for (scheme, more) in [("ldaps", ""), ("ldap", "start_tls: true, ")] {
        let (folder, origin) = (Folder::new(), Origin::echo());
        let (_directory, address) = slapd(&folder, scheme, &certificates);
        let ca = certificates.path("ca.crt");
        let trusting = gateway(
            &origin,
            &format!("{{ ldap: {{ url: \"{scheme}://{address}\", {more}ca_file: \"{ca}\", {SEARCHER} }} }}"),
        );
        // `alice:s3cret-alice`, `alice:wrong-alice`
        assert_eq!(basic(&trusting, "YWxpY2U6czNjcmV0LWFsaWNl"), 200);
        assert_eq!(basic(&trusting, "YWxpY2U6d3JvbmctYWxpY2U="), 401);
        let doubting = gateway(&origin, &format!("{{ ldap: {{ url: \"{scheme}://{address}\", {more}{SEARCHER} }} }}"));
        assert_eq!(basic(&doubting, "YWxpY2U6czNjcmV0LWFsaWNl"), 503);
    }
}

/// A program of PostgreSQL's, as a user that it runs as.
fn of_postgres(program: &str) -> Command {
    let bin = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
        let mut all: Vec<PathBuf> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
        all.sort();
        all.pop()
    });
    let program = bin.unwrap_or_default().join(program);
    // it does not run as root
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn has_postgres() -> bool {
    let there = Path::new("/usr/lib/postgresql").is_dir() && find("psql").is_some();
    is_there(if there { &[] } else { &["postgresql"] })
}

/// Makes the files of a database in a folder.
fn initdb(folder: &Folder) {
    own(folder.path());
    run(of_postgres("initdb")
        .args(["--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--username=owner", "--no-sync", "--pwfile"])
        .arg(password_file(folder))
        .arg("-D")
        .arg(folder.path().join("data")));
}

/// Gives a file to the user that PostgreSQL runs as.
fn own(path: &Path) {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(path));
    }
}

/// Starts the database of a folder, on a socket in the same folder; `None` where it ends instead, as where another program has its port.
fn start(folder: &Folder, port: u16, settings: &[String]) -> Option<Running> {
    let mut command = of_postgres("postgres");
    command.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path()).args(["-c", "fsync=off"]);
    command.arg("-p").arg(port.to_string());
    for setting in settings {
        command.args(["-c", setting]);
    }
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // its own word for ending at once, with all that serve connections
    let mut running = Running(command.spawn().unwrap(), Signal::QUIT);
    let socket = folder.path().join(format!(".s.PGSQL.{port}"));
    let up = wait_until("the database takes connections, or has ended", PATIENCE, || {
        if running.0.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let asked = socket.exists() && psql(folder, port, "select 1").output().unwrap().status.success();
        asked.then_some(true)
    });
    up.then_some(running)
}

/// A database in a folder, on a socket in the same folder.
fn postgres(folder: &Folder) -> Running {
    initdb(folder);
    start(folder, 5432, &["listen_addresses=".to_owned()]).unwrap()
}

/// The same on a port as well, where it takes nobody whose connection is not TLS, by `database.crt`.
fn postgres_over_tls(folder: &Folder, certificates: &Certificates) -> (Running, u16) {
    initdb(folder);
    for file in ["database.crt", "database.key"] {
        let (from, to) = (certificates.path(file), folder.path().join(file));
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        own(&to);
    }
    let rules = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(folder.path().join("data/pg_hba.conf"), rules).unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    // another program may take the port meanwhile: then another is tried
    for _ in 0..20 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("database.crt")),
            format!("ssl_key_file={}", file("database.key")),
        ];
        if let Some(running) = start(folder, port, &settings) {
            return (running, port);
        }
    }
    panic!("no port for the database");
}

fn password_file(folder: &Folder) -> PathBuf {
    let path = folder.write("password", "s3cret-owner\n");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, open).unwrap();
    path
}

fn psql(folder: &Folder, port: u16, statement: &str) -> Command {
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", "s3cret-owner").arg("-h").arg(folder.path()).arg("-p").arg(port.to_string());
    command.args(["-U", "owner", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-tA", "-c", statement]);
    command
}

#[test]
fn users_of_a_database_log_in_by_the_hashes_there() {
    if !has_postgres() {
        return;
    }
    let (folder, origin) = (Folder::new(), Origin::echo());
    let running = postgres(&folder);
    let table = format!(
        "create table users(name text primary key, password_hash text not null, roles text[] not null, off boolean not null); \
         insert into users values ('alice', '{HASH}', '{{clerk,boss}}', false), ('shop-app', '{HASH}', '{{}}', false), ('dave', '{HASH}', '{{}}', true), \
         ('eve', 'not a hash', '{{}}', false)"
    );
    run(&mut psql(&folder, 5432, &table));
    let query = "select name, password_hash, roles, off as disabled from users where name = lower($1)";
    let socket = folder.path().display().to_string();
    let source = format!(
        "{{ sql: {{ url: \"postgres://owner@/postgres?host={socket}\", password: s3cret-owner, tls: false, query: \"{query}\" }} }}"
    );
    let gateway = gateway(&origin, &source);
    let alice = (Some("alice".to_owned()), Some("clerk,boss".to_owned()));
    assert_eq!(told(&gateway, &origin, "alice", "password"), alice);
    assert_eq!(told(&gateway, &origin, "ALICE", "password"), alice, "by its name in the database");
    takes_the_same_work(&gateway, "hash");
    for (name, password) in [
        ("alice", "passwore"),
        ("nobody", "password"),
        ("dave", "password"),
        ("shop-app", "password"),
        ("alice'+or+'1'='1", "password"),
    ] {
        refused(&gateway, name, password);
    }
    assert_eq!(login(&gateway, "eve", "password").status, 503, "what cannot be checked lets nobody in");
    // `alice:password`
    assert_eq!(basic(&gateway, "YWxpY2U6cGFzc3dvcmQ="), 200);
    // `shop-app:password`: whoever has a consumer's name in the database is not that consumer
    assert_eq!(basic(&gateway, "c2hvcC1hcHA6cGFzc3dvcmQ="), 401);
    // a column of a fixed length has spaces at its end; a user has one name all the same, so that what is revoked is all of theirs
    run(&mut psql(&folder, 5432, "alter table users alter column name type char(12)"));
    for name in ["alice", "ALICE"] {
        assert_eq!(told(&gateway, &origin, name, "password"), alice, "{name}");
    }
    refused(&gateway, "alice%20", "password");
    let nameless = query.replace("name, password_hash", "password_hash");
    let nameless = self::gateway(&origin, &source.replace(query, &nameless));
    assert_eq!(
        login(&nameless, "alice", "password").status,
        503,
        "a user would have as many names as there are spellings"
    );
    wait_until("the log says why", PATIENCE, || {
        let lines = nameless.access_log();
        lines.iter().any(|line| line.to_string().contains("gives no column `name`")).then_some(())
    });
    // every connection ends, and the next login makes one
    run(&mut psql(
        &folder,
        5432,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'daemun'",
    ));
    assert_eq!(told(&gateway, &origin, "alice", "password"), alice);
    drop(running);
    assert_eq!(login(&gateway, "alice", "password").status, 503);
    let log = gateway.access_log().iter().map(ToString::to_string).collect::<String>();
    assert!(!log.contains("s3cret") && !log.contains("CTFhFdXPJO1a"), "{log}");
}

/// What a server is sent that has no TLS: all of it, until whoever asks gives up.
fn without_tls() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 8];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"N").unwrap();
        stream.read_to_end(&mut heard).unwrap();
        heard
    });
    (port, heard)
}

#[test]
fn a_database_is_asked_over_tls_and_must_prove_who_it_is() {
    if !has_postgres() {
        return;
    }
    let certificates = Certificates::new();
    certificates.issue("database", "ca", "DNS:localhost");
    certificates.authority("other");
    let (folder, origin) = (Folder::new(), Origin::echo());
    let (_running, port) = postgres_over_tls(&folder, &certificates);
    let table = format!("create table users(name text, hash text); insert into users values ('alice', '{HASH}')");
    run(&mut psql(&folder, port, &table));
    let query = "select name, hash as password_hash from users where name = $1";
    let source = |host: &str, port: u16, more: &str| {
        format!(
            "{{ sql: {{ url: \"postgres://owner@{host}:{port}/postgres\", password: s3cret-owner, {more}query: \"{query}\" }} }}"
        )
    };
    let ca = |name: &str| format!("ca_file: \"{}\", ", certificates.path(&format!("{name}.crt")));
    let trusting = gateway(&origin, &source("localhost", port, &ca("ca")));
    // `alice:password`, `alice:wrong`
    let (good, wrong) = ("YWxpY2U6cGFzc3dvcmQ=", "YWxpY2U6d3Jvbmc=");
    assert_eq!((basic(&trusting, good), basic(&trusting, wrong)), (200, 401));
    let secured = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'daemun'";
    let told = psql(&folder, port, secured).output().unwrap();
    assert_eq!(shown(&told.stdout).trim(), "t");
    let (plain, heard) = without_tls();
    for (source, why) in [
        (source("localhost", port, ""), "certificate"),
        (source("localhost", port, &ca("other")), "certificate"),
        (source("127.0.0.1", port, &ca("ca")), "certificate"),
        (source("localhost", port, "tls: false, "), "pg_hba.conf"),
        (source("localhost", plain, &ca("ca")), "TLS"),
    ] {
        let doubting = gateway(&origin, &source);
        assert_eq!(basic(&doubting, good), 503, "{source}");
        let line = wait_until("the log says why", PATIENCE, || doubting.access_log().first().map(ToString::to_string));
        assert!(line.contains(why) && !line.contains("s3cret"), "{source}: {line}");
        assert!(!doubting.stderr().contains("s3cret"), "{}", doubting.stderr());
    }
    // that it wants TLS is all that a server without it hears (PostgreSQL's SSLRequest)
    assert_eq!(heard.join().unwrap(), [0, 0, 0, 8, 4, 210, 22, 47]);
    // authorities that are put right are read at the next login
    certificates.copy("other.crt", "changing.crt");
    let mended = gateway(&origin, &source("localhost", port, &ca("changing")));
    assert_eq!(basic(&mended, good), 503);
    certificates.copy("ca.crt", "changing.crt");
    assert_eq!(basic(&mended, good), 200);
}
