//! Conversion of panics to errors.
//!
//! tract asserts on graphs that it does not expect. During the preparation of a graph, such a panic becomes an error
//! with the message of the panic. The panic hook of the process is not changed: by default it also prints the message.
//! Where panics abort, as in browsers, only the hook reports them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::TractResult;

use crate::error::ExecutionError;

/// Runs `work` and converts a panic to [`ExecutionError::Panic`].
pub(crate) fn guarded<R>(work: impl FnOnce() -> TractResult<R>) -> Result<R, ExecutionError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(ExecutionError::graph),
        Err(payload) => Err(ExecutionError::Panic(message(&*payload))),
    }
}

/// The message of a panic.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tract_onnx::prelude::TractError;
    use tract_onnx::tract_core::internal::TractErrorContext;

    use super::*;

    #[test]
    fn guarded_keeps_the_message_of_a_panic() {
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
        let size = 7;
        let formatted = guarded(|| -> TractResult<()> { panic!("axis {size} is out of bounds") }).unwrap_err();
        assert_eq!(formatted.to_string(), "the graph is inconsistent: axis 7 is out of bounds");
        let fixed = guarded(|| -> TractResult<()> { panic!("no axes") }).unwrap_err();
        assert_eq!(fixed.to_string(), "the graph is inconsistent: no axes");
        let odd = guarded(|| -> TractResult<()> { std::panic::panic_any(5) }).unwrap_err();
        assert!(odd.to_string().contains("without a message"));
    }

    #[test]
    fn guarded_keeps_the_causes_of_an_error() {
        let io = || Err::<(), _>(TractError::from(std::io::Error::other("the disk is gone")));
        let error = guarded(|| io().context("node conv_1")).unwrap_err();
        assert_eq!(error.to_string(), "node conv_1: the disk is gone");
        let causes: Vec<String> =
            std::iter::successors(error.source(), |&e| e.source()).map(|e| e.to_string()).collect();
        assert_eq!(causes, ["node conv_1", "the disk is gone"]);
    }
}
