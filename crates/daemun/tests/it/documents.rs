//! The configurations that the READMEs and the guide show: each whole one must pass `daemun check`.

use daemun::Code;

use crate::support::{Folder, daemun};

const PAGES: [(&str, &str, usize); 4] = [
    ("README.md", include_str!("../../../../README.md"), 1),
    ("README.ko.md", include_str!("../../../../README.ko.md"), 1),
    ("getting-started.md", include_str!("../../../../docs/guide/getting-started.md"), 2),
    ("demo.yaml", concat!("```yaml\n", include_str!("../../../../examples/demo.yaml"), "```\n"), 1),
];

/// The blocks of a page that are whole configurations without files of their own.
fn configurations(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("listeners:") && block.contains("routes:"))
}

#[test]
fn every_whole_configuration_in_a_document_is_sound() {
    for (name, page, least) in PAGES {
        let mut count = 0;
        for text in configurations(page) {
            let folder = Folder::new();
            let path = folder.write("daemun.yaml", &text.replace("${env:SHOP_APP_KEY}", "a-key-of-the-shop-app"));
            let ran = daemun(&["check", "-c", &path.display().to_string()]);
            assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""), "{name}: {text}");
            count += 1;
        }
        assert!(count >= least, "{name}: {count}");
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
