//! Text of clients in messages and logs.

/// Text of a client for a message: one line of at most 200 characters, in which control characters are replaced.
pub fn for_message(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_CHARS + 1).collect();
    if clean.chars().count() > MAX_CHARS { clean.chars().take(MAX_CHARS).chain(['…']).collect() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_limited_length() {
        assert_eq!(for_message("a\nb"), "a\u{fffd}b");
        assert_eq!(for_message(&"x".repeat(500)).chars().count(), 201);
    }
}
