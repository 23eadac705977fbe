//! Decoding of restart intervals on several processors.
//!
//! Every interval starts anew, so intervals can be decoded in any order where all markers are in place. Damaged files
//! are left to the sequential decoder, whose treatment of damage is libjpeg's.

use rayon::prelude::*;

use crate::bits::BitReader;
use crate::marker::{Cursor, RST0, RST7};
use crate::planes::Planes;
use crate::scan::ScanLayout;
use crate::sequential::{Entropy, SequentialScan};

/// MCU rows in one task at least: fewer are not worth the switch.
const MIN_ROWS_IN_TASK: usize = 4;

/// A division of a scan into tasks of whole MCU rows that start with an interval.
#[derive(Clone, Debug)]
pub(crate) struct RestartPlan {
    interval: usize,
    rows_in_task: usize,
    /// For each task the offset of its data and the number of its first restart marker.
    starts: Vec<(usize, u8)>,
}

impl RestartPlan {
    /// `None` where there is one processor, too few intervals start at a row, or a marker is missing or out of order.
    pub(crate) fn new(bytes: &[u8], at: usize, interval: usize, layout: &ScanLayout) -> Option<RestartPlan> {
        if interval == 0 || rayon::current_num_threads() < 2 {
            return None;
        }
        // Rows after which an interval starts at a row again.
        let period = interval / gcd(interval, layout.mcus_across);
        let rows_in_task = period * MIN_ROWS_IN_TASK.div_ceil(period);
        if rows_in_task * 2 > layout.mcus_down {
            return None;
        }
        let intervals_in_task = rows_in_task * layout.mcus_across / interval;
        let intervals = (layout.mcus_across * layout.mcus_down).div_ceil(interval);
        let mut starts = vec![(at, 0)];
        let mut cursor = Cursor::new(bytes, at);
        for index in 1..intervals {
            let expected = RST0 + ((index - 1) & 7) as u8;
            if cursor.next_marker() != Some(expected) {
                return None;
            }
            if index.is_multiple_of(intervals_in_task) {
                starts.push((cursor.at, (index & 7) as u8));
            }
        }
        let after = cursor.next_marker();
        (!after.is_some_and(|m| (RST0..=RST7).contains(&m))).then_some(RestartPlan { interval, rows_in_task, starts })
    }

    /// The state of the decoder at the start of a task.
    fn entropy<'b>(&self, task: usize, bytes: &'b [u8]) -> Entropy<'b> {
        let (at, next_restart) = self.starts[task];
        Entropy::new(BitReader::at_restart(bytes, at, next_restart), self.interval)
    }

    /// Decodes tasks side by side, as many at a time as there are processors, and calls `finished` with the planes and
    /// the number of complete MCU rows. Returns `None` if all tasks succeeded, else the row at which the sequential
    /// decoder continues, and its state there.
    pub(crate) fn decode<'b>(
        &self,
        bytes: &'b [u8],
        scan: &SequentialScan,
        layout: &ScanLayout,
        planes: &mut Planes,
        mut finished: impl FnMut(&Planes, usize),
    ) -> Option<(usize, Entropy<'b>)> {
        let tasks_at_once = 2 * rayon::current_num_threads();
        for first in (0..self.starts.len()).step_by(tasks_at_once) {
            let tasks = first..(first + tasks_at_once).min(self.starts.len());
            let first_row = first * self.rows_in_task;
            let end_row = (tasks.end * self.rows_in_task).min(layout.mcus_down);
            let mut bands: Vec<Vec<&mut [u8]>> = tasks.clone().map(|_| vec![]).collect();
            for (plane, at) in planes.components_mut().iter_mut().zip(&layout.components) {
                let height = at.v * 8;
                let bytes_in_task = self.rows_in_task * height * plane.stride();
                let rows = plane.rows_mut(first_row * height, (end_row - first_row) * height);
                for (bands, rows) in bands.iter_mut().zip(rows.chunks_mut(bytes_in_task)) {
                    bands.push(rows);
                }
            }
            let all_clean = tasks.into_par_iter().zip(bands).map(|(task, bands)| {
                let row = task * self.rows_in_task;
                let rows = self.rows_in_task.min(layout.mcus_down - row);
                let mut entropy = self.entropy(task, bytes);
                let mut bands: Vec<_> = bands
                    .into_iter()
                    .map(|band| {
                        let bytes_in_row = band.len() / rows;
                        band.chunks_mut(bytes_in_row)
                    })
                    .collect();
                for _ in 0..rows {
                    let mut row: Vec<&mut [u8]> = bands.iter_mut().filter_map(Iterator::next).collect();
                    scan.decode_row(&mut entropy, &mut row);
                }
                !entropy.truncated && !entropy.reader.source.corrupt
            });
            if !all_clean.reduce(|| true, |a, b| a && b) {
                return Some((first_row, self.entropy(first, bytes)));
            }
            finished(planes, end_row);
        }
        None
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
