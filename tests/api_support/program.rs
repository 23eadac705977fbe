//! `ifr serve` as a process of its own.

use super::{Measured, client};
use reqwest::blocking::Client;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The real program, its log lines, and where it listens.
pub struct Program {
    child: Child,
    client: Client,
    pub address: SocketAddr,
    pub log: mpsc::Receiver<Value>,
}

impl Program {
    /// Starts with nothing but these variables, and those that tests need.
    pub fn start(settings: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ifr"));
        command.arg("serve");
        Program::start_as(command, settings)
    }

    /// Like `start`, by a command that ends up as `ifr serve`.
    pub fn start_as(mut command: Command, settings: &[(&str, &str)]) -> Program {
        command.env_clear();
        command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json"), ("MAX_SIZE", "320,320")]);
        command.envs(settings.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                let _ = sender.send(line);
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Program { child, client: client(), address, log };
        let ready = program.line("ready");
        program.address = ready["address"].as_str().unwrap().parse().unwrap();
        program
    }

    /// The next line with this message.
    pub fn line(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(Duration::from_secs(60)).unwrap();
            if line["message"] == message {
                return line;
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < within, "still running");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Being asked for them leaves no line in the log.
impl Measured for Program {
    fn metrics(&self) -> String {
        self.client.get(self.url("/metrics")).send().unwrap().text().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
