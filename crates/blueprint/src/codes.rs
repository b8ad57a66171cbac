//! Every code a blueprint problem can have, with the longer explanation that `datahall explain CODE` prints.
//!
//! A code never changes its meaning; a code that is no longer used is not given to something else.
//! 105 was given to sections that an early version refused.
//! 00xx text, 01xx shape, 02xx values, 03xx references, 04xx contradictions.

use std::fmt;

use serde::{Serialize, Serializer};

/// The stable number of a kind of problem, printed as `DH0103`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DH{:04}", self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            $( #[doc = $text] pub const $name: Self = Self($number); )*
        }

        /// All codes in order, each with its explanation.
        static TABLE: &[(Code, &str)] = &[$((Code::$name, $text)),*];
    };
}

codes!(
    TOO_LARGE = 1, "The file is larger than a blueprint may be.\nA hall with thousands of nodes fits on one page, because a pool names a kind of node and a count. A file beyond one mebibyte is a mistake: a log or a data file given in place of the blueprint.";
    SYNTAX = 2, "The text is not TOML.\nThe place shown is where the reader could not go on; the mistake is there or just before: a missing quote, a missing `=`, a bracket that is not closed. Text values stand in quotes: name = \"lab\". Only the first mistake of this kind is shown, because what follows it cannot be understood.";
    DUPLICATE = 3, "The same key, section or name in a list appears twice.\nEach `[pool.NAME]` and each key inside it may be written once, and each name once in a list. Rename one of the two, or delete one.";
    WRONG_TYPE = 101, "The value has the wrong type.\nThe message says what was expected. Quantities are text with a unit in quotes (\"96 MiB\", \"700 W\"), counts are bare whole numbers (nodes = 4), switches are true or false.";
    MISSING_KEY = 102, "A key that has no default is missing.\nThe place shown is the section that needs it. `datahall init` writes a complete example.";
    UNKNOWN_KEY = 103, "The section has no such key.\nUnknown keys are errors, because a misspelled key that is silently ignored runs a hall that nobody asked for.";
    UNKNOWN_SECTION = 104, "There is no such section.\nSections are site, pool, fabric, store, queue, zone, workload, service, gateway, policy, edge, target and catalog.";
    BAD_NAME = 106, "The name cannot be used.\nNames are 1 to 63 characters of a-z, 0-9 and single hyphens inside, and start with a letter: `first-hall`. They become parts of addresses, directories and keys.";
    SCHEMA = 107, "The schema number is not one this version reads.\nThis version reads `schema = 1`. A larger number was written for a newer version of the program.";
    ELSEWHERE = 108, "The key exists, but not for this kind of section.\nWorkloads of different kinds have different keys, and so have fabrics of different topologies; a pool has either a `node` or an `accelerator`.";
    BAD_QUANTITY = 201, "The quantity cannot be read.\nA quantity is a number and a unit in quotes. Upper and lower case matter: GB is gigabytes, Gb is gigabits, GiB is 1024 x 1024 x 1024 bytes; MW is a million watts, mW a thousandth of one.";
    OUT_OF_RANGE = 202, "The number is outside of what is possible.\nThe message gives the bounds.";
    UNKNOWN_WORD = 203, "The value is not one of the words that are possible here.\nThe message lists them.";
    BAD_MODEL = 204, "The model of a training workload cannot be built.\nBuilt-in training knows dense networks, written as their layer sizes from input to output: `dense-784-256-10` has 784 inputs, one hidden layer of 256 and 10 classes. 2 to 16 sizes, each 1 to 65536.";
    BAD_URL = 205, "The address of the engine cannot be used.\nWrite http:// or https://, a host, and optionally a port and a path: `http://127.0.0.1:8080`. Keys and passwords do not belong into a blueprint.";
    BAD_ADDRESS = 206, "The address to listen on is not an IP address.\nWrite `127.0.0.1` or `::1` for this machine only, or the address of one network interface.";
    ONE_OF = 207, "Exactly one of several keys must be written.\nA service runs a `model` of its own or stands in front of an engine at a `url`.";
    BAD_COMMAND = 208, "The command or its environment cannot be run.\n`command` is a list of the program and its arguments, the program first; no text may contain a NUL character. Names in `env` are letters, digits and underscores and do not start with a digit.";
    BAD_ERASURE_CODE = 209, "The erasure code cannot be used.\nIt is written as data+parity: \"8+3\" cuts an object into eight pieces and adds three, each on a drive of its own; any three drives may be lost.";
    BAD_PORTS = 210, "The ports of a rule cannot be read.\nA port or a range of ports from 1 to 65535 and the protocol: \"443/tcp\", \"30000-32767/udp\"; or \"any\" for everything.";
    BAD_STATE = 211, "The place of the event log cannot be used.\n`sqlite` is a file of the data directory; `postgres://USER@HOST/DATABASE` is a database that several servers of the hall may share. The password does not belong into a blueprint: the server takes it from PGPASSWORD.";
    DANGLING = 301, "The name refers to a section that does not exist.\nThe hint gives the nearest name that does.";
    AMBIGUOUS = 302, "A reference was left out and there is more than one thing it could mean.\nWith one site, store or queue the reference may be left out; with several, name one.";
    NOT_IN_CATALOG = 303, "The catalogue has no such item.\nThe hint gives the nearest name, or the names there are.";
    BASE = 304, "The base of the blueprint cannot be read.\n`base` names another blueprint by its path from this file's folder. What this file says goes before what the base says, key by key; lists are taken whole.";
    BASE_LOOP = 305, "The bases of a blueprint go in a circle, or too deep.\nA base may have a base of its own, at most eight in a row.";
    BATCH = 401, "The batch cannot be shared equally among the ranks.\n`batch` is the global batch: every rank takes batch / ranks samples of it at each step, so that the gradients have equal weight. Choose a multiple of `ranks`.";
    GANG_TOO_LARGE = 402, "The gang needs more slots than the hall has.\nA gang starts all its ranks or none. It needs `ranks` x `slots_per_rank` slots; the hall has the sum of `nodes` x `slots` over its pools. Such a job would wait for ever.";
    RANK_TOO_LARGE = 403, "One rank needs more slots than any node has.\nThe slots of one rank are on one node.";
    SERVICES_TOO_LARGE = 404, "The services need more slots than the hall has.\nEvery replica of a service with a `model` holds `slots_per_replica` slots, one if that is left out.";
    EXPOSED = 405, "The hall would listen beyond this machine without having been told that this is wanted.\nWhoever reaches the ports can try keys against them. Keep `listen = \"127.0.0.1\"`, or write `expose = true` beside the address and put a firewall in front.";
    SAME_PORT = 406, "Two listeners have the same port.\nGive each its own, or 0 to take any free port.";
    NO_POOL = 407, "The hall has no nodes.\nAt least one pool is needed: [pool.local] with nodes = 1 is this machine.";
    IDLE_ABOVE_RATED = 408, "The idle power is above the rated power.\n`rated` is the most a node can draw and `idle` what it draws doing nothing.";
    TOO_MANY_SLOTS = 409, "The node has fewer accelerators than slots were asked for.\nA slot is one accelerator. Only on `this-machine`, where CPU cores stand in for accelerators, the number is free.";
    PUE_SPLIT = 410, "The PUE and its split contradict each other.\nThe PUE is 1 plus the shares of cooling, conversion and other. Leave `pue` out and it follows from the split.";
    TWO_ZONES = 411, "Something is a member of two security zones.\nWhat may reach it would depend on which zone is meant. Each pool, fabric, store, service and edge may be in one zone.";
    QUEUE_LOOP = 412, "A queue is a part of itself.\nThe parents of queues make a tree: from every queue `parent` leads up to one that has none.";
    OVERBOOKED = 413, "More slots are guaranteed than there are.\nThe guarantees of queues without a parent come out of the slots of the hall, those of other queues out of the guarantee of their parent. A promise that cannot be kept is worth nothing.";
);

/// The explanation of `code` (`DH0103`, in any case), if there is such a code.
pub fn explain(code: &str) -> Option<&'static str> {
    codes().find(|(known, _)| known.to_string().eq_ignore_ascii_case(code)).map(|(_, text)| text)
}

/// All codes in order, each with its explanation.
pub fn codes() -> impl Iterator<Item = (Code, &'static str)> {
    TABLE.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_explain_themselves() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TABLE.iter().all(|(_, text)| text.contains('\n') && text.len() > 60));
        assert_eq!(explain("dh0103"), explain("DH0103"));
        assert!(explain("DH0103").unwrap().starts_with("The section has no such key."));
        assert_eq!(explain("DH9999"), None);
        assert_eq!(explain(""), None);
    }
}
