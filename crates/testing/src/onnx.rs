//! A writer of small ONNX files with random weights, in the styles of different exporters.

/// A dimension of a declared shape.
#[derive(Clone, Copy, Debug)]
pub enum Dim {
    /// A size.
    Fixed(i64),
    /// A symbol, such as `N`.
    Named(&'static str),
    /// Neither a size nor a symbol.
    Open,
}

pub use Dim::{Fixed, Named, Open};

/// The properties in which exporters differ.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Version of the ONNX operators.
    pub opset: i64,
    /// Declared batch dimension.
    pub batch: Dim,
    /// Declared height and width; `None` for symbols.
    pub sides: Option<(i64, i64)>,
    /// List the weights among the inputs, as old exporters do.
    pub weights_as_inputs: bool,
}

impl Style {
    /// Opset 13, batch 1, 64x64.
    pub const PLAIN: Style = Style { opset: 13, batch: Fixed(1), sides: Some((64, 64)), weights_as_inputs: false };
}

/// A message in the wire format of Protocol Buffers.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: i64) -> Message {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

/// An attribute of a node: its name and value.
#[allow(missing_docs)]
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
    Floats(&'a str, &'a [f32]),
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn encode(&self) -> Message {
        let message = Message::default();
        match self {
            Attribute::Float(name, value) => message.text(1, name).float(2, *value).int(20, 1),
            Attribute::Int(name, value) => message.text(1, name).int(3, *value).int(20, 2),
            Attribute::Text(name, value) => message.text(1, name).text(4, value).int(20, 3),
            Attribute::Floats(name, values) => {
                values.iter().fold(message.text(1, name), |m, v| m.float(7, *v)).int(20, 6)
            }
            Attribute::Ints(name, values) => values.iter().fold(message.text(1, name), |m, v| m.int(8, *v)).int(20, 7),
        }
    }
}

/// A graph that is built node by node. Its input has the name "data". Methods that add a node return the name of its
/// output.
pub struct OnnxGraph {
    /// The style of the file.
    pub style: Style,
    nodes: Vec<Message>,
    weights: Vec<(String, Message, Vec<i64>, i64)>,
    outputs: Vec<(String, Vec<Dim>)>,
    count: usize,
    state: u32,
}

impl OnnxGraph {
    /// An empty graph.
    pub fn new(style: Style) -> OnnxGraph {
        OnnxGraph { style, nodes: vec![], weights: vec![], outputs: vec![], count: 0, state: 7 }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}_{}", self.count)
    }

    fn weight(&mut self, shape: &[i64], kind: i64, raw: &[u8]) -> String {
        let name = self.name("w");
        let tensor =
            shape.iter().fold(Message::default(), |m, d| m.int(1, *d)).int(2, kind).text(8, &name).bytes(9, raw);
        self.weights.push((name.clone(), tensor, shape.to_vec(), kind));
        name
    }

    /// A weight of f32 values. Returns its name.
    pub fn floats(&mut self, shape: &[i64], values: &[f32]) -> String {
        self.weight(shape, 1, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// A one-dimensional weight of i64 values. Returns its name.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.weight(&[values.len() as i64], 7, &raw)
    }

    /// Random weights between -`max` and `max`.
    fn noise(&mut self, shape: &[i64], max: f32) -> String {
        let count: i64 = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((self.state >> 8) as f32 / (1 << 23) as f32 - 1.0) * max
            })
            .collect();
        self.floats(shape, &values)
    }

    /// A node of any operator.
    pub fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        let output = self.name(&kind.to_lowercase());
        let node = inputs.iter().fold(Message::default(), |m, i| m.text(1, i)).text(2, &output).text(4, kind);
        let node = attributes.iter().fold(node, |m, a| m.message(5, &a.encode()));
        self.nodes.push(node);
        output
    }

    /// A square convolution from `from` to `to` channels, padded to keep the size.
    pub fn conv(&mut self, x: &str, from: i64, to: i64, kernel: i64, stride: i64) -> String {
        let weight = self.noise(&[to, from, kernel, kernel], (3.0 / (from * kernel * kernel) as f32).sqrt());
        let bias = self.noise(&[to], 0.1);
        let pad = (kernel - 1) / 2;
        let attributes = [
            Attribute::Ints("kernel_shape", &[kernel, kernel]),
            Attribute::Ints("strides", &[stride, stride]),
            Attribute::Ints("pads", &[pad, pad, pad, pad]),
        ];
        self.node("Conv", &[x, &weight, &bias], &attributes)
    }

    /// A 3x3 convolution and a ReLU.
    pub fn conv_relu(&mut self, x: &str, from: i64, to: i64, stride: i64) -> String {
        let y = self.conv(x, from, to, 3, stride);
        self.node("Relu", &[&y], &[])
    }

    /// A batch normalization.
    pub fn batch_norm(&mut self, x: &str, channels: i64) -> String {
        let ones = vec![1.25f32; channels as usize];
        let (scale, variance) = (self.floats(&[channels], &ones), self.floats(&[channels], &ones));
        let (bias, mean) = (self.noise(&[channels], 0.1), self.noise(&[channels], 0.1));
        self.node("BatchNormalization", &[x, &scale, &bias, &mean, &variance], &[Attribute::Float("epsilon", 1e-5)])
    }

    /// A fully connected layer from `from` to `to` values.
    pub fn dense(&mut self, x: &str, from: i64, to: i64) -> String {
        let (weight, bias) = (self.noise(&[to, from], (3.0 / from as f32).sqrt()), self.noise(&[to], 0.1));
        self.node("Gemm", &[x, &weight, &bias], &[Attribute::Int("transB", 1)])
    }

    /// A reshape; 0 keeps a dimension, -1 infers it.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.node("Reshape", &[x, &shape], &[])
    }

    /// A permutation of the dimensions.
    pub fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.node("Transpose", &[x], &[Attribute::Ints("perm", order)])
    }

    /// Limits values to 0..6. The limits are attributes up to opset 10, then inputs.
    pub fn clip(&mut self, x: &str) -> String {
        if self.style.opset < 11 {
            return self.node("Clip", &[x], &[Attribute::Float("min", 0.0), Attribute::Float("max", 6.0)]);
        }
        let (low, high) = (self.floats(&[], &[0.0]), self.floats(&[], &[6.0]));
        self.node("Clip", &[x, &low, &high], &[])
    }

    /// Doubles height and width. The operator is Upsample or Resize, in one of four forms depending on the opset.
    pub fn double(&mut self, x: &str) -> String {
        let nearest = Attribute::Text("mode", "nearest");
        let scales = [1.0, 1.0, 2.0, 2.0];
        if self.style.opset < 9 {
            return self.node("Upsample", &[x], &[nearest, Attribute::Floats("scales", &scales)]);
        }
        let scales = self.floats(&[4], &scales);
        match self.style.opset {
            9 => self.node("Upsample", &[x, &scales], &[nearest]),
            10 => self.node("Resize", &[x, &scales], &[nearest]),
            _ => {
                let transformation = Attribute::Text("coordinate_transformation_mode", "asymmetric");
                let rounding = Attribute::Text("nearest_mode", "floor");
                self.node("Resize", &[x, "", &scales], &[nearest, transformation, rounding])
            }
        }
    }

    /// The mean of each map, shape [batch, channels]. The axes are attributes or inputs, depending on the opset.
    pub fn global_mean(&mut self, x: &str) -> String {
        let keep = Attribute::Int("keepdims", 1);
        let mean = match self.style.opset < 18 {
            true => self.node("ReduceMean", &[x], &[Attribute::Ints("axes", &[2, 3]), keep]),
            false => {
                let axes = self.ints(&[2, 3]);
                self.node("ReduceMean", &[x, &axes], &[keep])
            }
        };
        if self.style.opset < 13 {
            return self.node("Squeeze", &[&mean], &[Attribute::Ints("axes", &[2, 3])]);
        }
        let axes = self.ints(&[2, 3]);
        self.node("Squeeze", &[&mean, &axes], &[])
    }

    /// Declares an output of the graph.
    pub fn output(&mut self, name: &str, shape: &[Dim]) {
        self.outputs.push((name.into(), shape.to_vec()));
    }

    /// The bytes of the file; `input` is the declared shape of the input.
    pub fn finish(self, input: &[Dim]) -> Vec<u8> {
        let mut graph = self.nodes.iter().fold(Message::default(), |m, n| m.message(1, n)).text(2, "graph");
        graph = self.weights.iter().fold(graph, |m, (_, tensor, _, _)| m.message(5, tensor));
        // The weights precede the image, as in real files, so that the image is not the first input.
        if self.style.weights_as_inputs {
            for (name, _, shape, kind) in &self.weights {
                let shape: Vec<Dim> = shape.iter().map(|d| Fixed(*d)).collect();
                graph = graph.message(11, &value(name, *kind, &shape));
            }
        }
        graph = graph.message(11, &value("data", 1, input));
        graph = self.outputs.iter().fold(graph, |m, (name, shape)| m.message(12, &value(name, 1, shape)));
        let opset = Message::default().text(1, "").int(2, self.style.opset);
        Message::default().int(1, 7).message(7, &graph).message(8, &opset).0
    }

    /// The bytes of the file, with an input of [batch, 3, height, width].
    pub fn finish_planar(self) -> Vec<u8> {
        let (h, w) = self.style.sides.map_or((Named("h"), Named("w")), |(h, w)| (Fixed(h), Fixed(w)));
        let input = [self.style.batch, Fixed(3), h, w];
        self.finish(&input)
    }
}

fn value(name: &str, kind: i64, shape: &[Dim]) -> Message {
    let dims = shape.iter().fold(Message::default(), |m, dim| {
        let dim = match dim {
            Fixed(value) => Message::default().int(1, *value),
            Named(name) => Message::default().text(2, name),
            Open => Message::default(),
        };
        m.message(1, &dim)
    });
    let tensor = Message::default().int(1, kind).message(2, &dims);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A network of one ReLU layer; its input is 1x3x64x64.
pub fn relu_network() -> Vec<u8> {
    let mut graph = OnnxGraph::new(Style::PLAIN);
    let output = graph.node("Relu", &["data"], &[]);
    graph.output(&output, &[Fixed(1), Fixed(3), Fixed(64), Fixed(64)]);
    graph.finish_planar()
}
