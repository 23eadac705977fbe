//! Settings files: the `.env` of the original and of Docker Compose.
//!
//! The syntax is Compose's (<https://docs.docker.com/reference/compose-file/services/#env_file-format>), except that
//! variables are not expanded: `$HOME` and `${HOME}` stay as they are. The `dotenvy` crate expands them and refuses
//! unquoted values with spaces, such as JSON.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// A settings file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvFileError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: not NAME=value")]
    Line { path: PathBuf, line: usize },
    #[error("{path}, line {line}: the quotation mark of the value is not closed")]
    Quote { path: PathBuf, line: usize },
}

/// Reads the names and values of a file; the last value of a name counts. Errs with the number of the first invalid
/// line.
pub(super) fn read(path: &Path) -> Result<HashMap<String, String>, EnvFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| EnvFileError::Read { path: path.into(), source })?;
    parse(&text).map_err(|(line, problem)| match problem {
        LineProblem::Name => EnvFileError::Line { path: path.into(), line },
        LineProblem::Quote => EnvFileError::Quote { path: path.into(), line },
    })
}

#[derive(Debug, PartialEq)]
enum LineProblem {
    /// The line does not start with a name and `=` or `:`.
    Name,
    /// A quoted value does not end, or is followed by more than a comment.
    Quote,
}

/// The entries of a text, or the number of the line with the first problem.
fn parse(text: &str) -> Result<HashMap<String, String>, (usize, LineProblem)> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = HashMap::new();
    while !rest.is_empty() {
        let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let statement = line.trim();
        if statement.is_empty() || statement.starts_with('#') {
            rest = after;
            continue;
        }
        let statement = match statement.strip_prefix("export") {
            Some(exported) if exported.starts_with(char::is_whitespace) => exported.trim_start(),
            _ => statement,
        };
        let Some((name, _)) = statement.split_once(['=', ':']) else {
            // A name alone stands for the variable of the environment, which has precedence in any case.
            if !is_name(statement) {
                return Err((number, LineProblem::Name));
            }
            rest = after;
            continue;
        };
        let name = name.trim_end();
        if !is_name(name) {
            return Err((number, LineProblem::Name));
        }
        let separator = rest.find(['=', ':']).unwrap_or_default();
        let value = &rest[separator + 1..];
        let start = value.trim_start_matches([' ', '\t']);
        let value = match start.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            None => {
                rest = after;
                unquoted(&value[..value.find('\n').unwrap_or(value.len())])
            }
            Some(quote) => {
                let (value, remaining) = quoted(&start[1..], quote).ok_or((number, LineProblem::Quote))?;
                rest = remaining;
                value
            }
        };
        entries.insert(name.to_owned(), value);
    }
    Ok(entries)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']'))
}

/// A value without quotation marks: it ends with the line, or at a comment, which starts after a space.
fn unquoted(value: &str) -> String {
    let comment = value.find(" #").or_else(|| value.find("\t#"));
    comment.map_or(value, |start| &value[..start]).trim().to_owned()
}

/// The value at the start of `text`, which follows an opening quotation mark, and the lines after it. The value may
/// have several lines. `None` if it does not end, or if more than a comment follows it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let ends = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            let (line, after) = chars.as_str().split_once('\n').unwrap_or((chars.as_str(), ""));
            if ends(line) {
                return Some((value, after));
            }
            break;
        }
        let escape = chars.clone().next().filter(|_| c == '\\').and_then(|escaped| match (quote, escaped) {
            ('\'', '\'') => Some('\''),
            ('"', 'n') => Some('\n'),
            ('"', 'r') => Some('\r'),
            ('"', 't') => Some('\t'),
            ('"', '"' | '\\' | '$') => Some(escaped),
            _ => None,
        });
        if escape.is_some() {
            chars.next();
        }
        value.push(escape.unwrap_or(c));
    }
    // Not valid in Compose, but unambiguous: the last quotation mark of the line ends the value.
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    line.rsplit_once(quote).filter(|(_, rest)| ends(rest)).map(|(value, _)| (value.to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_syntax_is_read_without_expansion() {
        let entry = |line: &str| {
            let entries = parse(line).ok()?.into_iter().map(|(name, value)| format!("{name}|{value}"));
            Some(entries.collect::<Vec<_>>().join("; "))
        };
        for (line, expected) in [
            ("REC_NAME=glintr100", "REC_NAME|glintr100"),
            ("export REC_NAME = glintr100  # the large one", "REC_NAME|glintr100"),
            ("MAX_SIZE=\"640,640\" # width, height", "MAX_SIZE|640,640"),
            (r#"DEF_IMG_REQ_HEADERS='{"User-Agent": "a # b"}'"#, r#"DEF_IMG_REQ_HEADERS|{"User-Agent": "a # b"}"#),
            (r#"H={"User-Agent": "a b", "X": "$Y"}"#, r#"H|{"User-Agent": "a b", "X": "$Y"}"#),
            (r#"H="{\"User-Agent\": \"a b\"}""#, r#"H|{"User-Agent": "a b"}"#),
            ("GA_NAME=", "GA_NAME|"),
            ("GA_NAME=   # none", "GA_NAME|"),
            ("GA_NAME=''", "GA_NAME|"),
            ("COLOR=#fff", "COLOR|#fff"),
            ("COLOR=a#fff", "COLOR|a#fff"),
            ("A: b=c", "A|b=c"),
            ("A=b=c:d", "A|b=c:d"),
            ("A = two words ", "A|two words"),
            ("\texport\tA=1", "A|1"),
            ("exported=1", "exported|1"),
            ("A=$B${C:-x}$$D", "A|$B${C:-x}$$D"),
            ("A='$B${C}'", "A|$B${C}"),
            (r#"A="$B${C}""#, "A|$B${C}"),
            (r#"A="\$B \\ \n \d""#, "A|$B \\ \n \\d"),
            (r"A='Let\'s \n'", r"A|Let's \n"),
            ("A=C:\\models", "A|C:\\models"),
            ("A=b\r", "A|b"),
            ("\u{feff}A=b", "A|b"),
            ("INHERITED", ""),
            ("# comment\n\n  # another", ""),
            (r"A='it's'", "A|it's"),
            (r"A='C:\models\'", r"A|C:\models\"),
        ] {
            assert_eq!(entry(line).as_deref(), Some(expected), "{line}");
        }
        let entries = parse("A='a\nb' # two lines\n# more\nB=\nC=1").unwrap();
        assert_eq!((entries.len(), &*entries["A"], &*entries["C"]), (3, "a\nb", "1"));
        let problem = |text: &str| parse(text).unwrap_err();
        assert_eq!(["no value", "=x", "A B=c"].map(problem), [(); 3].map(|()| (1, LineProblem::Name)));
        assert_eq!(problem("A=1\r\nB=\"2\nC=3\n"), (2, LineProblem::Quote));
        assert_eq!(problem("A='1\n2'\n?"), (3, LineProblem::Name));
    }

    #[test]
    fn errors_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "A=1\n\n# B\n  C D  \n").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("line 4: not NAME=value"));
        std::fs::write(&file, "A=1\nA=2\n").unwrap();
        assert_eq!(read(&file).unwrap()["A"], "2");
        assert!(read(&dir.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
