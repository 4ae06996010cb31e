//! Files of variables, which containers leave for those that start after them (`fileKeyRef`): `NAME='value'` on each line.
//!
//! The subset of the shell's syntax that Kubernetes takes (KEP-3721): values in single quotes, over several lines if need
//! be; comments; no blank before `=`; a blank after it leaves the value empty.

/// The value of a name, or nothing when the file has none; or what is wrong with the file.
pub(crate) fn value(text: &str, wanted: &str) -> Result<Option<String>, String> {
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once('=').ok_or_else(|| format!("line {number} has no `=`"))?;
        if name.is_empty() || name.ends_with([' ', '\t']) {
            return Err(format!("line {number} has no name right before its `=`"));
        }
        let found = if rest.starts_with([' ', '\t']) {
            String::new()
        } else {
            let rest =
                rest.strip_prefix('\'').ok_or_else(|| format!("the value in line {number} is not in single quotes"))?;
            let (value, after) =
                quoted(rest, &mut lines).ok_or_else(|| format!("the quote in line {number} has no end"))?;
            let after = after.trim_start_matches([' ', '\t']);
            if !after.is_empty() && !after.starts_with('#') {
                return Err(format!("something follows the value that begins in line {number}"));
            }
            value
        };
        if name == wanted {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What stands before the closing quote, and after it in its line.
fn quoted<'a>(first: &'a str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<(String, &'a str)> {
    let (mut value, mut line) = (String::new(), first);
    loop {
        if let Some((end, after)) = line.split_once('\'') {
            value.push_str(end);
            return Some((value, after));
        }
        value.push_str(line);
        value.push('\n');
        line = lines.next()?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn files_are_read_as_kubernetes_reads_them() {
        let text = "# of an init container\n\n  A='1'\nB='two\nlines' # and a comment\nC= 'x'\nD='$A \"q\"'\n";
        let of = |name: &str| value(text, name).unwrap();
        assert_eq!(of("A").as_deref(), Some("1"));
        assert_eq!(of("B").as_deref(), Some("two\nlines"));
        assert_eq!(of("C").as_deref(), Some(""));
        assert_eq!(of("D").as_deref(), Some("$A \"q\""));
        assert_eq!(of("E"), None);
        let wrong = |text: &str| value(text, "Z").unwrap_err();
        assert_eq!(wrong("A='1'\nB"), "line 2 has no `=`");
        assert_eq!(wrong("A ='1'"), "line 1 has no name right before its `=`");
        assert_eq!(wrong("A=1"), "the value in line 1 is not in single quotes");
        assert_eq!(wrong("A='1"), "the quote in line 1 has no end");
        assert_eq!(wrong("A='1'2"), "something follows the value that begins in line 1");
    }
}
