//! Pages stored in the program: the demo and the interactive documentation.

pub mod demo;
pub mod encoding;
pub mod swagger;
