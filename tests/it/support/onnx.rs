//! The smallest ONNX file.

/// A network of one Relu layer; its input is 1x3x64x64.
pub fn relu_network() -> Vec<u8> {
    let tensor = |name: &[u8], shape: &[u8]| {
        let dimensions: Vec<u8> = shape.iter().flat_map(|size| message(1, &number(1, *size))).collect();
        let tensor = [&number(1, 1)[..], &message(2, &dimensions)].concat();
        [message(1, name), message(2, &message(1, &tensor))].concat()
    };
    let node = [message(1, b"data"), message(2, b"relu"), message(4, b"Relu")].concat();
    let shape = [1, 3, 64, 64];
    let parts = [
        message(1, &node),
        message(2, b"graph"),
        message(11, &tensor(b"data", &shape)),
        message(12, &tensor(b"relu", &shape)),
    ];
    let opset = [&message(1, b"")[..], &number(2, 13)].concat();
    [&number(1, 7)[..], &message(7, &parts.concat()), &message(8, &opset)].concat()
}

/// A field of protocol buffers with a small number.
fn number(field: u8, value: u8) -> [u8; 2] {
    [field << 3, value]
}

/// A field of protocol buffers with bytes or another message; all lengths here fit one byte.
fn message(field: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[field << 3 | 2, content.len() as u8], content].concat()
}
