//! The table of hazards names tests that exist, and each of them says whose it is.

use std::path::Path;

/// Letters with the tests of docs/HAZARDS.md, as file and function.
fn table() -> Vec<(char, Vec<(String, String)>)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/HAZARDS.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let letter = cells.next().filter(|cell| cell.len() == 1)?.chars().next()?;
        let named = |test: &str| test.split_once("::").map(|(file, name)| (file.to_owned(), name.to_owned()));
        Some((letter, cells.last()?.split('`').filter_map(named).collect()))
    });
    rows.collect()
}

/// The lines of comment before a function.
fn comment(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines
        .iter()
        .position(|line| line.contains(&format!("fn {name}(")))
        .unwrap_or_else(|| panic!("{file} has no {name}"));
    let before = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let before: Vec<&str> = before.copied().collect();
    assert!(before.iter().any(|line| line.contains("test]")), "{name} of {file} is no test");
    before.into_iter().rev().filter(|line| line.starts_with("///")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_hazard_has_a_test_with_its_letter() {
    let table = table();
    let letters: String = table.iter().map(|(letter, _)| letter).collect();
    assert_eq!(letters, "abcdefghijklmn");
    for (letter, tests) in table {
        assert!(!tests.is_empty(), "{letter} has no test");
        for (file, name) in tests {
            let said = comment(&file, &name);
            let (_, of) =
                said.split_once("Hazard").unwrap_or_else(|| panic!("{file}::{name} names no hazard: {said:?}"));
            let of = of.trim_start_matches('s').split([':', '.']).next().unwrap();
            let words: Vec<&str> = of.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            assert!(words.contains(&letter.to_string().as_str()), "{file}::{name} is not about {letter}: {said}");
        }
    }
}
