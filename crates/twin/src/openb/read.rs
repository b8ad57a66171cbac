//! The trace's two files: nodes and pods, in their native columns.
//!
//! Invariant: a model that only pods name is one that no node has; a list without the column of models accepts any.

use std::collections::BTreeMap;

use csv::StringRecord;
use dh_policy::packing::{ACCELERATORS_MAX, Node, Request, WHOLE};

use crate::Error;

/// Nodes and pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Empty nodes.
    pub nodes: Vec<Node>,
    /// What pods ask for, in the file's order.
    pub pods: Vec<Request>,
}

/// Models of accelerators, at most: one bit each, and one for all that no node has.
const MODELS_MAX: usize = 31;
/// Cores and memory of one node: far above any machine.
const CPU_MILLI_MAX: u32 = 1_000_000_000;

/// Reads both files.
/// # Errors
/// The first line that is not in the format.
pub fn read(nodes: &str, pods: &str) -> Result<Trace, Error> {
    let mut models = BTreeMap::new();
    let nodes = rows("nodes", nodes, |row| node(row, &mut models))?;
    let pods = rows("pods", pods, |row| pod(row, &models))?;
    Ok(Trace { nodes, pods })
}

/// A row with its file's head.
struct Row<'a> {
    file: &'static str,
    line: u64,
    head: &'a StringRecord,
    cells: &'a StringRecord,
}

impl Row<'_> {
    fn known(&self, column: &str) -> Option<&str> {
        let at = self.head.iter().position(|name| name == column)?;
        self.cells.get(at).map(str::trim)
    }

    fn text(&self, column: &'static str) -> Result<&str, Error> {
        self.known(column).ok_or(Error::Column { file: self.file, column })
    }

    /// A whole number up to `most`; an empty cell is 0.
    fn number(&self, column: &'static str, most: u32) -> Result<u32, Error> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(0);
        }
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| self.error(format!("`{column}` is `{text}`, expected a whole number up to {most}")))
    }

    fn error(&self, why: String) -> Error {
        Error::Line { file: self.file, line: self.line, why }
    }
}

fn rows<T>(
    file: &'static str,
    text: &str,
    mut each: impl FnMut(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let broken = |error: &csv::Error| Error::Line {
        file,
        line: error.position().map_or(0, csv::Position::line),
        why: error.to_string(),
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| broken(&error))?.clone();
    let mut found = Vec::new();
    for record in reader.records() {
        let cells = record.map_err(|error| broken(&error))?;
        let line = cells.position().map_or(0, csv::Position::line);
        found.push(each(&Row { file, line, head: &head, cells: &cells })?);
    }
    if found.is_empty() { Err(Error::Nothing("a file of the trace has no rows")) } else { Ok(found) }
}

fn node(row: &Row<'_>, models: &mut BTreeMap<String, u8>) -> Result<Node, Error> {
    let most = u32::try_from(ACCELERATORS_MAX).unwrap_or(u32::MAX);
    let accelerators = usize::try_from(row.number("gpu", most)?).unwrap_or(0);
    let name = row.text("model")?;
    let next = u8::try_from(models.len()).ok().filter(|next| usize::from(*next) < MODELS_MAX);
    let model = match (models.get(name), next) {
        (Some(model), _) => *model,
        (None, Some(next)) => {
            models.insert(name.to_owned(), next);
            next
        }
        (None, None) => return Err(row.error(format!("there are more than {MODELS_MAX} models of accelerators"))),
    };
    let (cpu, memory) = (row.number("cpu_milli", CPU_MILLI_MAX)?, row.number("memory_mib", u32::MAX)?);
    Ok(Node::empty(cpu, memory, model, accelerators))
}

fn pod(row: &Row<'_>, models: &BTreeMap<String, u8>) -> Result<Request, Error> {
    let accelerators = row.number("num_gpu", 255)?;
    let milli = if accelerators == 0 { 0 } else { row.number("gpu_milli", u32::from(WHOLE))? };
    let named = row.known("gpu_spec").unwrap_or_default().split('|').filter(|name| !name.is_empty());
    // The last bit is that of models that no node has.
    let accepted = named.map(|name| 1_u32 << models.get(name).map_or(31, |model| u32::from(*model)));
    Ok(Request {
        cpu_milli: row.number("cpu_milli", CPU_MILLI_MAX)?,
        memory_mib: row.number("memory_mib", u32::MAX)?,
        accelerators: u8::try_from(accelerators).unwrap_or(u8::MAX),
        milli: u16::try_from(milli).unwrap_or(WHOLE),
        models: accepted.fold(0, |all, one| all | one),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P100\nb,96000,393216,8,G2\n";

    #[test]
    fn models_are_bits_and_those_of_no_node_fit_nowhere() {
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
                    p,1000,1024,1,500,G2|P100\nq,1000,1024,1,500,H100\nr,1000,1024,0,,\n";
        let trace = read(NODES, pods).unwrap();
        assert_eq!(trace.pods.iter().map(|pod| pod.models).collect::<Vec<_>>(), [0b11, 1 << 31, 0]);
        assert!(trace.nodes.iter().all(|node| node.fits(&trace.pods[0]) && !node.fits(&trace.pods[1])));
        assert_eq!(trace.pods[2].demand(), 0);
    }

    #[test]
    fn a_list_without_models_accepts_any() {
        let trace = read(NODES, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1000,1024,8,1000\n").unwrap();
        assert_eq!((trace.pods[0].models, trace.pods[0].demand()), (0, 8000));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |pods: &str| read(NODES, pods).unwrap_err().to_string();
        let head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli";
        assert_eq!(
            error(&format!("{head}\np,1000,1024,1,500\nq,many,1,1,1\n")),
            "pods:3: `cpu_milli` is `many`, expected a whole number up to 1000000000"
        );
        assert_eq!(
            error(&format!("{head}\np,1,1,1,1001\n")),
            "pods:2: `gpu_milli` is `1001`, expected a whole number up to 1000"
        );
        assert_eq!(error("name,cpu_milli\np,1\n"), "pods: there is no column `num_gpu`");
        assert_eq!(error(head), "a file of the trace has no rows");
    }
}
