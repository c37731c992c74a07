//! What is shown of nginx itself.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// `nginx`
#[derive(Debug, Serialize)]
pub struct Instance {
    /// The version of nginx.
    pub version: String,
    /// The name of the build: free nginx has none.
    pub build: &'static str,
    /// The address at which the request came in.
    pub address: String,
    /// How often a configuration was loaded, from 1 on.
    pub generation: u64,
    /// When that was last, ISO 8601.
    pub load_timestamp: String,
    /// The present time, ISO 8601.
    pub timestamp: String,
    /// The id of the worker that answers.
    pub pid: u32,
    /// That of its master.
    pub ppid: u32,
}

/// `processes`
#[derive(Debug, Serialize)]
pub struct Processes {
    /// Workers that were started in place of one that died.
    pub respawned: u64,
}

/// `connections`; without any figure where nginx does not count them.
#[derive(Debug, Default, Serialize)]
pub struct Connections {
    /// Those that were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<usize>,
    /// Those of them that were not handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<usize>,
    /// Those at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<usize>,
    /// Those that wait for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<usize>,
}

/// `http/requests`; without any figure where nginx does not count them.
#[derive(Debug, Default, Serialize)]
pub struct Requests {
    /// All that came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
    /// Those at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<usize>,
}

/// A worker. nginx counts nothing worker by worker.
#[derive(Debug, Default, Serialize)]
pub struct Worker {
    /// Its number.
    pub id: u32,
    /// The id of its process.
    pub pid: u32,
    /// Nothing.
    pub connections: Connections,
    /// Nothing.
    pub http: WorkerRequests,
}

/// The requests of a worker.
#[derive(Debug, Default, Serialize)]
pub struct WorkerRequests {
    /// Nothing.
    pub requests: Requests,
}

/// A shared zone.
#[derive(Debug, Serialize)]
pub struct Slab {
    /// Its pages.
    pub pages: Pages,
    /// What is smaller than a page, by the size in bytes.
    pub slots: Slots,
}

/// The pages of a zone.
#[derive(Debug, Serialize)]
pub struct Pages {
    /// Those in use.
    pub used: usize,
    /// The others.
    pub free: usize,
}

/// Pieces that are smaller than a page, in the order of their sizes.
#[derive(Debug)]
pub struct Slots(pub Vec<(usize, Slot)>);

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(size, slot)| (size.to_string(), slot)))
    }
}

/// The pieces of one size.
#[derive(Debug, Serialize)]
pub struct Slot {
    /// Those in use.
    pub used: usize,
    /// Those that are free, in pages for this size.
    pub free: usize,
    /// How often one was asked for.
    pub reqs: usize,
    /// How often there was none.
    pub fails: usize,
}

/// All zones by their names.
pub type Slabs = BTreeMap<String, Slab>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let json = |worker: &Worker| serde_json::to_string(worker).unwrap();
        assert_eq!(
            json(&Worker { id: 1, pid: 2, ..Worker::default() }),
            r#"{"id":1,"pid":2,"connections":{},"http":{"requests":{}}}"#
        );
        let slot = || Slot { used: 1, free: 2, reqs: 3, fails: 0 };
        let slab = Slab {
            pages: Pages { used: 1, free: 2 },
            slots: Slots(vec![(8, slot()), (16, slot())]),
        };
        assert_eq!(
            serde_json::to_string(&slab).unwrap(),
            r#"{"pages":{"used":1,"free":2},"slots":{"8":{"used":1,"free":2,"reqs":3,"fails":0},"16":{"used":1,"free":2,"reqs":3,"fails":0}}}"#
        );
    }
}
