//! Energy and money of a run, from the power of its accelerators and of all that stands around them.
//!
//! Invariant: power times time; nothing is counted twice: what a node's other parts draw is the node without its
//! accelerators, and the site's overhead is in the power usage effectiveness alone.

use dh_units::{Joules, Seconds, Tokens, Usd, UsdPerKwh, Watts};

/// What a node draws besides its accelerators: processors, memory, adapters, fans, losses of its supplies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Node {
    /// At rest.
    pub idle: Watts,
    /// At most.
    pub rated: Watts,
    /// Where between the two it is while the run lasts: 0 to 1.
    pub load: f64,
}

impl Node {
    /// What it draws.
    pub fn power(self) -> Watts {
        let above = Watts((self.rated - self.idle).0.max(0.0));
        self.idle + above * self.load.max(0.0).clamp(0.0, 1.0)
    }
}

/// A run, as its electricity is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Accelerators it holds.
    pub accelerators: u32,
    /// What one of them draws on average: [`super::draw`].
    pub draw: Watts,
    /// Nodes it holds.
    pub nodes: u32,
    /// What each of them draws besides.
    pub node: Node,
    /// How long it takes.
    pub time: Seconds,
    /// Power usage effectiveness of the site: what it draws over what its machines draw.
    pub pue: f64,
}

/// The electricity of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Of accelerators alone, which is what most publications count.
    pub accelerators: Joules,
    /// Of nodes, accelerators included.
    pub machines: Joules,
    /// At the site's meter.
    pub site: Joules,
}

impl Run {
    /// Its electricity.
    pub fn energy(&self) -> Energy {
        let accelerators = self.draw * f64::from(self.accelerators) * self.time;
        let machines = accelerators + self.node.power() * f64::from(self.nodes) * self.time;
        Energy { accelerators, machines, site: machines * self.pue }
    }

    /// What its electricity costs at the site's meter.
    pub fn cost(&self, price: UsdPerKwh) -> Usd {
        self.energy().site * price
    }
}

/// Energy of one of `tokens`; `None` if there are none.
pub fn per_token(energy: Joules, tokens: Tokens) -> Option<Joules> {
    (tokens.0 > 0).then(|| energy / tokens.as_f64())
}

/// Money for a million of `tokens` that cost `money` together; `None` if there are none.
pub fn per_million_tokens(money: Usd, tokens: Tokens) -> Option<Usd> {
    (tokens.0 > 0).then(|| money / tokens.as_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_a_node_by_hand() {
        // 8 x 600 W + 2,000 W for a day is 163.2 kWh; at the meter 1.25 times that; a billion tokens for $20.40.
        let run = Run {
            accelerators: 8,
            draw: Watts(600.0),
            nodes: 1,
            node: Node { idle: Watts(1_000.0), rated: Watts(3_000.0), load: 0.5 },
            time: Seconds(86_400.0),
            pue: 1.25,
        };
        let energy = run.energy();
        assert!((energy.accelerators.kwh() - 115.2).abs() < 1e-9);
        assert!((energy.machines.kwh() - 163.2).abs() < 1e-9);
        assert!((energy.site.kwh() - 204.0).abs() < 1e-9);
        let cost = run.cost(UsdPerKwh(0.1));
        assert!((cost.0 - 20.4).abs() < 1e-9);
        assert!((per_million_tokens(cost, Tokens(1_000_000_000)).unwrap().0 - 0.0204).abs() < 1e-12);
        assert!((per_token(energy.site, Tokens(1_000_000_000)).unwrap().0 - 0.7344).abs() < 1e-9);
        assert_eq!((per_token(energy.site, Tokens(0)), per_million_tokens(cost, Tokens(0))), (None, None));
    }

    #[test]
    fn a_node_draws_between_rest_and_its_rating() {
        let node = Node { idle: Watts(500.0), rated: Watts(400.0), load: 2.0 };
        assert!((node.power().0 - 500.0).abs() < 1e-9);
        assert!((Node { rated: Watts(900.0), ..node }.power().0 - 900.0).abs() < 1e-9);
    }
}
