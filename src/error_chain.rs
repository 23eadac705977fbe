//! Chains of causes: an error, the error behind it, and so on.

use std::error::Error;
use std::io;

/// The error and the errors behind it, the first cause last.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        // `source` of an I/O error passes over the error it carries.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The message of the first cause: what "error sending request" is about.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn chains_go_through_io_errors() {
        let error = Outer(io::Error::other(Outer(io::Error::other("inner"))));
        let messages: Vec<String> = chain(&error).map(ToString::to_string).collect();
        assert_eq!(messages, ["outer", "outer", "outer", "inner", "inner"]);
        assert_eq!(chain(&error).filter(|e| e.is::<Outer>()).count(), 2);
        assert_eq!(root_cause(&error), "inner");
    }
}
