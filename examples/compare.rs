use ifr::engine::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let shape: Vec<usize> = args[2].split('x').map(|s| s.parse().unwrap()).collect();
    let bytes = std::fs::read(&args[1]).unwrap();
    let name = std::path::Path::new(&args[1]).file_stem().unwrap().to_string_lossy().to_string();
    let a = Network::from_onnx(&bytes, &name).unwrap();
    let b = Network::from_onnx(&bytes, &name).unwrap().with_backend(Backend::Tract);
    let t = std::time::Instant::now();
    let pa = a.plan(&shape).unwrap();
    let prep = t.elapsed();
    let pb = match b.plan(&shape) {
        Ok(p) => p,
        Err(e) => {
            println!("{name} tract: {e}");
            return;
        }
    };
    let mut s = 1u32;
    let n: usize = shape.iter().product();
    let input: Vec<f32> = (0..n)
        .map(|_| {
            s = s.wrapping_mul(1664525).wrapping_add(1013904223);
            (s >> 8) as f32 / (1 << 24) as f32 * if a.normalizes_input() { 255.0 } else { 2.0 }
                - if a.normalizes_input() { 0.0 } else { 1.0 }
        })
        .collect();
    let ra = pa.run(&input).unwrap();
    let ra2 = pa.run(&input).unwrap();
    let rb = pb.run(&input).unwrap();
    let mut worst = 0f32;
    for (x, (x2, y)) in ra.iter().zip(ra2.iter().zip(&rb)) {
        assert_eq!(x.shape, y.shape);
        let scale = y.data.iter().fold(0f32, |m, v| m.max(v.abs()));
        let d = x.data.iter().zip(&y.data).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        if x.data.iter().any(|v| v.is_nan()) {
            println!("NAN");
        }
        assert_eq!(x.data, x2.data);
        worst = worst.max(d / scale.max(1e-20));
        if args.len() > 3 {
            println!("  {:?} scale {scale} diff {d}", x.shape);
        }
    }
    let e = pa.explain(&input, 1).unwrap();
    let tract = e.layers.iter().filter(|l| l.runs_on == "tract").count();
    println!(
        "{name} {shape:?}: worst {worst:e} of scale, prepared in {prep:?}, {} steps, {tract} tract",
        e.layers.len()
    );
    if args.len() > 3 {
        println!("{}", pa.explain(&input, 9).unwrap());
    }
}
