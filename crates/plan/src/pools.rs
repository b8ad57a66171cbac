//! Nodes and accelerators, pool by pool.

use std::borrow::Cow;

use dh_blueprint::{AcceleratorItem, Kind, NodeItem, OwnNode, Pool};
use dh_units::{Usd, Watts, significant};
use serde::Serialize;

use crate::book::Book;
use crate::error::Error;

/// A pool as far as racks, networks, power and money need it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolPlan {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub site: String,
    /// What its nodes are called in the trade.
    pub title: String,
    /// Nodes, spares included.
    pub nodes: u32,
    /// Accelerators of one node.
    pub accelerators_per_node: u32,
    /// Accelerators of all nodes.
    pub accelerators: u64,
    /// The accelerator's name in the catalogue, where it is known.
    pub accelerator: Option<String>,
    /// The most one node draws.
    #[serde(rename = "rated_watts")]
    pub rated: Watts,
    /// What one node draws at work.
    #[serde(rename = "expected_watts")]
    pub expected: Watts,
    /// Price of one node, if known.
    #[serde(rename = "price_usd")]
    pub price: Option<Usd>,
    /// Rack units of one node.
    pub height_u: u32,
    /// Whether a node is a rack by itself.
    pub own_rack: bool,
    /// The most nodes of one rack, if the blueprint says.
    pub per_rack_max: Option<u32>,
    /// Id of the number of nodes.
    #[serde(skip)]
    pub(crate) nodes_id: String,
    /// Id of the rated power of one node.
    #[serde(skip)]
    pub(crate) rated_id: String,
    /// Id of the price of one node.
    #[serde(skip)]
    pub(crate) price_id: Option<String>,
    /// Ports of one node by role, with speed: of the catalogue.
    #[serde(skip)]
    pub(crate) item: NodeItem,
}

/// Height of a node whose item does not say: a common server. A stated assumption.
const HEIGHT_U: u32 = 2;

/// All pools, entered in the book; and the totals `count.nodes`, `count.accelerators`.
pub(crate) fn pools(book: &mut Book<'_>) -> Result<Vec<PoolPlan>, Error> {
    let settings = book.settings;
    let mut plans = Vec::new();
    for (name, pool) in &settings.pools {
        let item = pool.item(&settings.catalog).ok_or_else(|| {
            Error::Inconsistent(format!("pool `{name}` is made of `{}`, which the catalogue does not have", pool.node))
        })?;
        plans.push(one(book, name, pool, item));
    }
    let nodes: u64 = plans.iter().map(|pool| u64::from(pool.nodes)).sum();
    let ids: Vec<String> = plans.iter().map(|pool| pool.nodes_id.clone()).collect();
    book.sum("count.nodes", "nodes", nodes, "sum over all pools", &ids);
    let accelerators: u64 = plans.iter().map(|pool| pool.accelerators).sum();
    let ids: Vec<String> = plans.iter().map(|pool| format!("count.pool.{}.accelerators", pool.name)).collect();
    book.sum("count.accelerators", "accelerators", accelerators, "sum over all pools", &ids);
    Ok(plans)
}

fn one(book: &mut Book<'_>, name: &str, pool: &Pool, item: Cow<'_, NodeItem>) -> PoolPlan {
    let path = |key: &str| format!("pool.{name}.{key}");
    let nodes_id = book.says(&path("nodes"), &format!("nodes of pool {name}"), pool.nodes);
    let per_node = item.accelerators.as_ref().map_or(0, |count| count.value);
    let own = pool.own.as_ref().map(|own| own_node(book, name, own, &item));
    let per_node_id = if let Some(own) = &own {
        own.per_node.clone()
    } else if let Some(count) = &item.accelerators {
        book.fact(Kind::Node, &item.name, "accelerators", "accelerators of a node", count)
    } else {
        let id = format!("catalog.node.{}.accelerators", item.name);
        book.ledger.given(&id, "accelerators of a node", 0_u64, "this machine is asked when the hall runs on it");
        id
    };
    let accelerators = u64::from(pool.nodes) * u64::from(per_node);
    book.sum(
        &format!("count.pool.{name}.accelerators"),
        &format!("accelerators of pool {name}"),
        accelerators,
        format!("{} nodes x {per_node}", pool.nodes),
        &[nodes_id.clone(), per_node_id],
    );
    let (rated, rated_id) = match (pool.rated, &own) {
        (Some(rated), _) => (rated, book.says(&path("rated"), "rated power of a node", rated)),
        (None, Some(own)) => (item.rated.value, own.rated.clone()),
        (None, None) => {
            (item.rated.value, book.fact(Kind::Node, &item.name, "rated", "rated power of a node", &item.rated))
        }
    };
    let (price, price_id) = match (pool.price, &item.price) {
        (Some(price), _) => (Some(price), Some(book.says(&path("price"), "price of a node", price))),
        (None, Some(price)) if own.is_some() => {
            let id = path("node.price");
            book.ledger.given(&id, "price of a node", price.value, &price.source);
            (Some(price.value), Some(id))
        }
        (None, Some(price)) => {
            (Some(price.value), Some(book.fact(Kind::Node, &item.name, "price", "price of a node", price)))
        }
        (None, None) => (None, None),
    };
    PoolPlan {
        name: name.to_owned(),
        site: pool.site.clone(),
        title: item.title.clone(),
        nodes: pool.nodes,
        accelerators_per_node: per_node,
        accelerators,
        accelerator: item.accelerator.as_ref().map(|name| name.value.clone()),
        rated,
        expected: rated * pool.load,
        price,
        height_u: item.height_u.as_ref().map_or(HEIGHT_U, |height| height.value),
        per_rack_max: pool.nodes_per_rack,
        own_rack: item.own_rack.as_ref().is_some_and(|own| own.value),
        nodes_id,
        rated_id,
        price_id,
        item: item.into_owned(),
    }
}

/// Ids of what is known of a node that the blueprint makes of accelerators.
struct OwnIds {
    per_node: String,
    rated: String,
}

/// Enters a node that is made of accelerators under its pool's name: two pools may make different nodes of the same ones.
fn own_node(book: &mut Book<'_>, name: &str, own: &OwnNode, item: &NodeItem) -> OwnIds {
    let path = |key: &str| format!("pool.{name}.{key}");
    let per_node = book.says(&path("accelerators_per_node"), "accelerators of a node", own.per_node);
    let mut inputs = vec![per_node.clone()];
    let tdp = book.settings.catalog.accelerator(&own.accelerator).and_then(|accelerator| accelerator.tdp.as_ref());
    inputs.extend(tdp.map(|tdp| book.fact(Kind::Accelerator, &own.accelerator, "tdp", "thermal design power", tdp)));
    let title = "power of a node over that of its accelerators";
    inputs.push(book.says(&path("server_factor"), title, own.server_factor));
    let each = tdp.map_or_else(|| "?".to_owned(), |tdp| tdp.value.to_string());
    let formula = format!("{} x {each} x {}", own.per_node, significant(own.server_factor));
    let rated = book.sum(&path("node.rated"), "rated power of a node", item.rated.value, formula, &inputs);
    OwnIds { per_node, rated }
}

impl PoolPlan {
    /// The accelerator's item, where the catalogue has it.
    pub(crate) fn accelerator_item<'s>(&self, book: &Book<'s>) -> Option<&'s AcceleratorItem> {
        book.settings.catalog.accelerator(self.accelerator.as_deref()?)
    }
}
