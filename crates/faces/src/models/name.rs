//! Names of models.

/// Rule that [`is_name`] checks, for messages.
pub(super) const NAME_RULE: &str = "letters, digits, '.', '_' and '-' only";

/// Maximum length of a model name in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Whether `name` is a valid model name. A name becomes part of a file path and of a URL, so only plain characters are
/// allowed.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.starts_with('.') && name.chars().all(plain)
}

/// The names in a comma-separated list, trimmed; empty items are skipped.
pub fn split_names(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').map(str::trim).filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_models_directory_are_invalid() {
        assert!(is_name("scrfd_10g-v1.2"));
        for odd in ["", "../secret", "a/b", ".hidden", "nul\0", "my model"] {
            assert!(!is_name(odd), "{odd:?}");
        }
        assert!(is_name(&"a".repeat(128)) && !is_name(&"a".repeat(129)));
    }

    #[test]
    fn lists_of_names_are_split_at_commas() {
        assert_eq!(split_names(" a, ,b,").collect::<Vec<_>>(), ["a", "b"]);
    }
}
