//! Files of settings, as `docker --env-file` and the original's `.env` have them.

use std::collections::HashMap;
use std::path::Path;

/// Names and values of a file. Errs with the line that cannot be read.
pub(super) fn read(path: &Path) -> Result<HashMap<String, String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let entry = |(number, line): (usize, &str)| match parse(line) {
        Some(entry) => Ok(entry),
        None => Err(format!("{}, line {number}: not NAME=value", path.display())),
    };
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(entry).collect()
}

/// One pair of quotes around the value is not part of it; without quotes a comment may follow after a space.
fn parse(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let quoted = ['"', '\''].iter().find_map(|&quote| {
        let (inside, after) = value.strip_prefix(quote)?.rsplit_once(quote)?;
        let after = after.trim();
        (after.is_empty() || after.starts_with('#')).then_some(inside)
    });
    let value = quoted.unwrap_or_else(|| value.split_once(" #").map_or(value, |(value, _)| value.trim_end()));
    Some((name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_people_write_them() {
        let of = |line: &str| parse(line).map(|(name, value)| format!("{name}|{value}"));
        for (line, expected) in [
            ("REC_NAME=glintr100", "REC_NAME|glintr100"),
            ("export REC_NAME = glintr100  # the large one", "REC_NAME|glintr100"),
            ("MAX_SIZE=\"640,640\" # width, height", "MAX_SIZE|640,640"),
            (r#"DEF_IMG_REQ_HEADERS='{"User-Agent": "a # b"}'"#, r#"DEF_IMG_REQ_HEADERS|{"User-Agent": "a # b"}"#),
            ("GA_NAME=", "GA_NAME|"),
            ("COLOR=#fff", "COLOR|#fff"),
        ] {
            assert_eq!(of(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!((of("no value"), of("=x"), of("A B=c")), (None, None, None));
    }

    #[test]
    fn the_line_at_fault_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "A=1\n\n# B\n  C  \n").unwrap();
        assert!(read(&file).unwrap_err().contains("line 4"));
        std::fs::write(&file, "A=1\nA=2\n").unwrap();
        assert_eq!(read(&file).unwrap()["A"], "2");
        assert!(read(&dir.path().join("absent")).unwrap_err().contains("absent"));
    }
}
