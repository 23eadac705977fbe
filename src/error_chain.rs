//! Chains of error sources.

use std::error::Error;
use std::io;

/// The error and its sources; the root cause is the last one.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        // `source` of an I/O error skips the error inside it.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The message of the root cause. The message of a `reqwest` error itself is often only "error sending request".
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
