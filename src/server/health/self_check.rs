//! `/health`: whether the configured networks find the face in a picture they carry.

use crate::server::inference::Inference;
use crate::server::models::configured::Models;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a good result is believed; health checks must not cost much more than they tell.
const BELIEVED: Duration = Duration::from_secs(1);

/// Checks health, once for all who ask at the same time.
#[derive(Default)]
pub struct HealthCheck {
    last_good: Mutex<Option<Instant>>,
}

impl HealthCheck {
    /// Errs with one sentence for clients when no face was found or the networks failed.
    pub async fn run(&self, inference: &Inference, models: &Models) -> Result<(), String> {
        let mut last_good = self.last_good.lock().await;
        if last_good.is_some_and(|moment| moment.elapsed() < BELIEVED) {
            return Ok(());
        }
        *last_good = None;
        match inference.check(models.configured().clone(), crate::models::health_picture()).await {
            Ok(0) => Err("no face was found in the picture that has one".into()),
            Ok(_) => {
                *last_good = Some(Instant::now());
                Ok(())
            }
            Err(reason) => Err(reason),
        }
    }
}
