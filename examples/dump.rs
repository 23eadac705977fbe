use std::time::Instant;
use tract_onnx::prelude::*;
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
        .map(|s| s.split_whitespace().nth(1).unwrap().to_string())
        .collect::<Vec<_>>()
        .join("/")
}
fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().collect();
    let shape: Vec<usize> = args[2].split('x').map(|s| s.parse().unwrap()).collect();
    let mode = args.get(3).map(|s| s.as_str()).unwrap_or("d");
    let t = Instant::now();
    let mut m = tract_onnx::onnx().with_ignore_output_shapes(true).model_for_path(&args[1])?;
    eprintln!("parse {:?} {}", t.elapsed(), rss());
    let outs = m.output_outlets()?.to_vec();
    for o in outs {
        m.set_outlet_fact(o, Default::default())?;
    }
    m.set_input_fact(0, f32::fact(&shape).into())?;
    let t = Instant::now();
    let m = m.into_typed()?;
    eprintln!("typed {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let m = if mode == "d" { m.into_decluttered()? } else { m };
    eprintln!("declutter {:?} {}", t.elapsed(), rss());
    let order = m.eval_order()?;
    for id in order {
        let n = m.node(id);
        use tract_onnx::tract_core::internal::*;
        let ins: Vec<String> = n.inputs.iter().map(|i| format!("{}.{}", i.node, i.slot)).collect();
        let outs: Vec<String> = n.outputs.iter().map(|o| format!("{:?}", o.fact)).collect();
        let info = n.op.info().unwrap_or_default().join(" | ");
        let mut s = format!(
            "{:4} {:24} {:?} <- [{}] -> {} :: {}",
            id,
            n.op.name(),
            n.name,
            ins.join(" "),
            outs.join(" ; "),
            info
        );
        if s.len() > 420 {
            s.truncate(420);
        }
        println!("{s}");
    }
    println!("outputs {:?}", m.output_outlets()?);
    Ok(())
}
