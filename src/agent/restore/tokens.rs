//! The tokens of the source in the target's cassandra.yaml: the node takes its part of the ring without a bootstrap.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Error;
use crate::layout::{BackupName, Layout};
use crate::store::Store;

/// The tokens that the backup's tokenmap gives the source.
pub(crate) async fn of(store: &Store, layout: &Layout, backup: &BackupName) -> Result<Vec<String>, Error> {
    let key = layout.meta(backup, "tokenmap.json");
    let node = layout.node().as_str();
    let json = store.get(&key).await?.unwrap_or_default();
    let map: Value = serde_json::from_slice(&json).unwrap_or_default();
    let token = |value: &Value| match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let listed = map.get(node).and_then(|facts| facts.get("tokens")).and_then(Value::as_array);
    let tokens: Option<Vec<String>> = listed.and_then(|tokens| tokens.iter().map(token).collect());
    let plain = |token: &String| token.strip_prefix('-').unwrap_or(token).bytes().all(|byte| byte.is_ascii_digit());
    match tokens.filter(|tokens| !tokens.is_empty() && tokens.iter().all(plain)) {
        Some(tokens) => Ok(tokens),
        None => Err(Error::Tokens { key, node: node.to_owned() }),
    }
}

/// Sets them in the file, as often as asked.
pub(super) fn set(path: &Path, tokens: &[String]) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    let changed = with_tokens(&text, tokens).map_err(|what| Error::Yaml { path: path.to_owned(), what })?;
    if changed == text {
        return Ok(());
    }
    // Beside it first where the directory allows; a file that is a mount of its own is written in place.
    let staged = path.with_extension("yaml.stheno");
    let copied =
        fs::write(&staged, &changed).and_then(|()| fs::set_permissions(&staged, fs::metadata(path)?.permissions()));
    if copied.and_then(|()| fs::rename(&staged, path)).is_err() {
        // What could not be renamed is not needed.
        let _ = fs::remove_file(&staged);
        fs::write(path, &changed).map_err(failed)?;
    }
    Ok(())
}

/// cassandra.yaml with the tokens, everything else as it was.
fn with_tokens(text: &str, tokens: &[String]) -> Result<String, String> {
    let all = tokens.join(",");
    let mut yaml: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    if text.trim_start().starts_with('{') {
        // JSON, or YAML in one line: written anew as a whole.
        yaml.insert("initial_token".into(), all.into());
        yaml.insert("auto_bootstrap".into(), false.into());
        if yaml.contains_key("num_tokens") {
            yaml.insert("num_tokens".into(), tokens.len().into());
        }
        return serde_yaml_ng::to_string(&yaml).map_err(|error| error.to_string());
    }
    let mut settings = vec![("initial_token", format!("'{all}'")), ("auto_bootstrap", "false".to_owned())];
    if yaml.contains_key("num_tokens") {
        settings.push(("num_tokens", tokens.len().to_string()));
    }
    let key = |line: &str| line.split_once(':').map(|(key, _)| key.to_owned()).unwrap_or_default();
    let mut lines: Vec<String> =
        text.lines().filter(|line| !settings.iter().any(|(name, _)| key(line) == *name)).map(str::to_owned).collect();
    lines.extend(settings.into_iter().map(|(name, value)| format!("{name}: {value}")));
    let changed = lines.join("\n") + "\n";
    match serde_yaml_ng::from_str::<serde_yaml_ng::Mapping>(&changed) {
        Ok(_) => Ok(changed),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_yaml_ng::Mapping {
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn lines_are_replaced_or_added_once() {
        let tokens = ["-5".to_owned(), "7".to_owned()];
        let text =
            "# note\ncluster_name: 'c'\nnum_tokens: 16\n#initial_token: 1\nseeds:\n  - a: 1\nauto_bootstrap: true";
        let changed = with_tokens(text, &tokens).unwrap();
        assert!(changed.contains("# note\n") && changed.contains("cluster_name: 'c'\n"));
        let yaml = read(&changed);
        assert_eq!(yaml["initial_token"].as_str(), Some("-5,7"));
        assert_eq!((yaml["num_tokens"].as_i64(), yaml["auto_bootstrap"].as_bool()), (Some(2), Some(false)));
        assert_eq!(with_tokens(&changed, &tokens).unwrap(), changed);
        assert!(!with_tokens("a: 1\n", &tokens).unwrap().contains("num_tokens"));
    }

    #[test]
    fn json_stays_one_document() {
        let changed = with_tokens(r#"{"cluster_name": "c", "num_tokens": 16}"#, &["9".to_owned()]).unwrap();
        let yaml = read(&changed);
        assert_eq!((yaml["initial_token"].as_str(), yaml["num_tokens"].as_i64()), (Some("9"), Some(1)));
        assert!(with_tokens("a: [1", &[]).is_err());
    }
}
