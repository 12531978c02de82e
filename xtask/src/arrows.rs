//! Which room may import which: the table in ARCHITECTURE.md against the workspace's manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;

/// What a room may import. `None`: everything.
type Allowed = BTreeMap<String, Option<BTreeSet<String>>>;

/// Fails on an import that the table doesn't allow, on a room it doesn't name, and on a row without a room.
pub(crate) fn check() -> Outcome {
    eprintln!("── arrows between rooms");
    let text = std::fs::read_to_string("ARCHITECTURE.md").map_err(|e| format!("ARCHITECTURE.md: {e}"))?;
    let allowed = parse(&text);
    let mut wrong = compare(&allowed, &imports()?);
    wrong.extend(random_selects());
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Clippy cannot tell a biased `select!` from one that picks at random, so the word itself is banned outside `ports`.
fn random_selects() -> Vec<String> {
    let mut files = Vec::new();
    crate::sizes::collect(std::path::Path::new("crates"), &mut files);
    let banned = concat!("tokio::", "select!");
    let uses = |file: &std::path::PathBuf| std::fs::read_to_string(file).is_ok_and(|text| text.contains(banned));
    let ours = files.into_iter().filter(|f| !f.starts_with("crates/ports") && uses(f));
    ours.map(|f| format!("{}: {banned} picks at random: use gantry_ports::select!, which looks from top to bottom", f.display())).collect()
}

/// Reads the table: rows whose first cell names rooms in backquotes, between the markers.
fn parse(text: &str) -> Allowed {
    let table = text.split("<!-- rooms -->").nth(1).unwrap_or("");
    let quoted =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(|w| w.trim_end_matches('/').to_owned()).collect() };
    let mut allowed = Allowed::new();
    for row in table.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let imports = cells.last().map(|c| c.trim()).unwrap_or("");
        let imports = (imports != "all").then(|| quoted(imports));
        for room in quoted(cells[0]) {
            allowed.insert(room, imports.clone());
        }
    }
    allowed
}

/// What each room imports, dev-dependencies aside.
fn imports() -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let output = Command::new("cargo").args(["metadata", "--no-deps", "--format-version", "1"]).output();
    let output = output.map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let room = |name: &str| name.strip_prefix("gantry-").unwrap_or(name).to_owned();
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = room(package["name"].as_str().unwrap_or(""));
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let ours = dependencies.filter(|d| d["kind"].is_null() && d["path"].is_string()).filter_map(|d| d["name"].as_str());
        all.insert(name, ours.map(room).collect());
    }
    Ok(all)
}

fn compare(allowed: &Allowed, imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, imported) in imports {
        match allowed.get(room) {
            None => wrong.push(format!(
                "room `{room}` is not in ARCHITECTURE.md's table of rooms: add a row that says what it is for and may import"
            )),
            Some(None) => {}
            Some(Some(allowed)) => {
                let extra = imported.difference(allowed);
                wrong.extend(extra.map(|e| format!("`{room}` imports `{e}`, which ARCHITECTURE.md doesn't allow: move the code, or decide otherwise there and in docs/decisions")));
            }
        }
    }
    wrong.extend(
        allowed.keys().filter(|r| !imports.contains_key(*r)).map(|r| format!("ARCHITECTURE.md names a room `{r}` that does not exist")),
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arrows_and_missing_rows_are_found() {
        let allowed = parse(
            "x\n<!-- rooms -->\n| room | what | may import |\n|---|---|---|\n| `a` | x | nothing of ours |\n| `b` | y | `a` |\n| `top/` | z | all |\n<!-- rooms -->\n| `c` | | |",
        );
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let mut imports = BTreeMap::from([("a".to_owned(), set(&[])), ("b".to_owned(), set(&["a"])), ("top".to_owned(), set(&["a", "b"]))]);
        assert_eq!(compare(&allowed, &imports), Vec::<String>::new());
        imports.insert("a".into(), set(&["b"]));
        imports.insert("d".into(), set(&[]));
        imports.remove("top");
        assert_eq!(compare(&allowed, &imports).len(), 3);
    }
}
