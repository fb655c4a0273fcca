//! The configurations that the READMEs and the guide show: each whole one must pass `daemun check`.

use std::path::Path;

use daemun::Code;

use crate::support::{Folder, daemun};

const PAGES: &[(&str, &str, usize)] = &[
    ("README.md", include_str!("../../../../README.md"), 1),
    ("README.ko.md", include_str!("../../../../README.ko.md"), 1),
    ("getting-started.md", include_str!("../../../../docs/guide/getting-started.md"), 2),
    ("expressions.md", include_str!("../../../../docs/reference/expressions.md"), 1),
    ("proxy-protocol.md", include_str!("../../../../docs/guide/proxy-protocol.md"), 3),
    ("static-files.md", include_str!("../../../../docs/guide/static-files.md"), 2),
    ("finding-targets.md", include_str!("../../../../docs/guide/finding-targets.md"), 2),
    ("balancing.md", include_str!("../../../../docs/guide/balancing.md"), 4),
    ("failures.md", include_str!("../../../../docs/guide/failures.md"), 4),
    ("users-and-passwords.md", include_str!("../../../../docs/guide/users-and-passwords.md"), 4),
    ("keys-users-tokens.md", include_str!("../../../../docs/guide/keys-users-tokens.md"), 2),
    ("overload.md", include_str!("../../../../docs/guide/overload.md"), 3),
    ("login.md", include_str!("../../../../docs/guide/login.md"), 1),
    ("plans.md", include_str!("../../../../docs/guide/plans.md"), 1),
    ("permission.md", include_str!("../../../../docs/guide/permission.md"), 1),
    ("permission.yaml", concat!("```yaml\n", include_str!("../../../../examples/permission.yaml"), "```\n"), 1),
    ("from-nginx-auth-request.md", include_str!("../../../../docs/guide/from-nginx-auth-request.md"), 2),
    (
        "daemun-kept.yaml",
        concat!("```yaml\n", include_str!("../../../../examples/retailer/daemun-kept.yaml"), "```\n"),
        1,
    ),
    (
        "daemun-own.yaml",
        concat!("```yaml\n", include_str!("../../../../examples/retailer/daemun-own.yaml"), "```\n"),
        1,
    ),
    ("tokens-of-others.md", include_str!("../../../../docs/guide/tokens-of-others.md"), 2),
    ("jwt.yaml", concat!("```yaml\n", include_str!("../../../../examples/jwt.yaml"), "```\n"), 1),
    ("static-site.yaml", concat!("```yaml\n", include_str!("../../../../examples/static-site.yaml"), "```\n"), 1),
    ("demo.yaml", concat!("```yaml\n", include_str!("../../../../examples/demo.yaml"), "```\n"), 1),
];

/// The blocks of a page that are whole configurations without files of their own.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("listeners:") && block.contains("routes:"))
}

#[test]
fn every_whole_configuration_in_a_document_is_sound() {
    for &(name, page, least) in PAGES {
        let mut count = 0;
        for text in configurations(page) {
            let folder = Folder::new();
            std::fs::create_dir_all(folder.path("public/downloads")).unwrap();
            let text = text.replace("${env:SHOP_APP_KEY}", "a-key-of-the-shop-app");
            let text = text.replace("${env:OIDC_SECRET}", "what the provider gave out");
            let text = text.replace("${env:SESSION_SECRET}", "a secret of 32 bytes, or rather more");
            let path = folder.write("daemun.yaml", &text);
            let ran = daemun(&["check", "-c", &path.display().to_string()]);
            assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""), "{name}: {text}");
            count += 1;
        }
        assert!(count >= least, "{name}: {count}");
    }
}

/// The commands that an example opens with, up to its check.
fn commands(example: &str) -> String {
    let lines = example.lines().take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix("#   "));
    let mut commands = String::new();
    for line in lines {
        commands.push_str(line);
        commands.push('\n');
        if line.starts_with("daemun check ") {
            return commands;
        }
    }
    panic!("there is no check in the commands:\n{commands}");
}

#[test]
fn an_example_that_needs_files_or_variables_opens_with_the_commands_that_make_them() {
    for (name, example) in [
        ("api-keys.yaml", include_str!("../../../../examples/api-keys.yaml")),
        ("login.yaml", include_str!("../../../../examples/login.yaml")),
        ("tls.yaml", include_str!("../../../../examples/tls.yaml")),
        ("users.yaml", include_str!("../../../../examples/users.yaml")),
    ] {
        let folder = Folder::new();
        folder.write(name, example);
        let own = Path::new(env!("CARGO_BIN_EXE_daemun")).parent().unwrap().display().to_string();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap());
        let mut shell = std::process::Command::new("sh");
        shell.args(["-euc", &commands(example)]).current_dir(folder.path(""));
        shell.env("PATH", path).env_remove("SHOP_APP_KEY").env_remove("WAREHOUSE_KEY").env_remove("DAEMUN_WORKERS");
        let ran = shell.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{name}: {out}{err}");
        assert!(out.contains("ok: ") && !err.contains("warning["), "{name}: {out}{err}");
    }
}

#[test]
fn a_mistake_is_shown_as_the_guide_shows_it() {
    let (_, guide, _) = PAGES[2];
    let shown = guide.split("```console\n").find(|block| block.starts_with("error[")).unwrap();
    let shown = shown.split("```").next().unwrap();
    let folder = Folder::new();
    let text = configurations(guide).next().unwrap().replace("status", "statsu");
    let path = folder.write("daemun.yaml", &text).display().to_string();
    let err = daemun(&["check", "-c", &path]).err.replace(&path, "daemun.yaml");
    assert!(err.starts_with(shown), "{err}");
}
