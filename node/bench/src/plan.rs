//! What a run does: where to, with how many connections, which commands, for how long.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::named::{Named, Preparation};
use crate::net::Target;
use crate::random::Distribution;
use crate::sizes::Sizes;
use crate::template::{self, Meaning, Template};

/// When commands are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each client sends its next commands when the last ones are answered.
    Closed,
    /// By the clock, whether or not the server keeps up. Latencies count from the time a command was due.
    Open {
        /// Commands a second, of all clients together.
        rate: f64,
        /// Whether they are due at random moments, as independent users' are, or at even distances.
        random: bool,
    },
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so long (and the warm-up).
    Time(Duration),
    /// After exactly so many commands.
    Requests(u64),
}

/// The load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Clients with commands to send. In a cluster each has a connection to every primary.
    pub clients: usize,
    /// Threads that the clients are shared out to.
    pub threads: usize,
    /// Commands that a client has on their way at once.
    pub pipeline: usize,
    /// When commands are sent.
    pub pace: Pace,
    /// When it ends.
    pub until: Until,
    /// Load before that, which is not counted.
    pub warm_up: Duration,
    /// Connections beside the clients that send nothing.
    pub idle: usize,
    /// Whether a connection that breaks is opened again; otherwise it ends the run.
    pub reconnect: bool,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            clients: 50,
            threads: 1,
            pipeline: 1,
            pace: Pace::Closed,
            until: Until::Time(Duration::from_secs(10)),
            warm_up: Duration::ZERO,
            idle: 0,
            reconnect: false,
            seed: 1,
        }
    }
}

/// One command of a mix.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// As it is shown.
    pub name: String,
    /// Its words, with placeholders.
    pub words: Vec<String>,
    /// How many of them, in proportion to the others.
    pub weight: u64,
    /// The word that its slot goes by.
    pub key: Option<usize>,
    /// What makes what it finds.
    pub prepare: Option<Preparation>,
}

/// The commands, and what their placeholders mean.
#[derive(Clone, Debug)]
pub struct Work {
    /// The mix.
    pub commands: Vec<Command>,
    /// What stands before the numbers of the named commands' keys.
    pub prefix: String,
    /// How many keys there are.
    pub keys: u64,
    /// Which of them are asked for how often.
    pub distribution: Distribution,
    /// How long values are.
    pub data: Sizes,
    /// Seconds for `__ttl__`; named commands that write a string set it, too, if it is given.
    pub ttl: Option<Sizes>,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            commands: Vec::new(),
            prefix: "key:".to_owned(),
            keys: 100_000,
            distribution: Distribution::Uniform,
            data: Sizes::fixed(64),
            ttl: None,
        }
    }
}

impl Work {
    /// Adds a command by its name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn add_named(&mut self, name: &str, weight: u64, cluster: bool) -> Result<(), String> {
        let named = Named::find(name).ok_or_else(|| {
            let names: Vec<&str> = crate::named::NAMED.iter().map(|n| n.name).collect();
            format!(
                "no command is called `{name}`; there are {}, and any command line",
                names.join(", ")
            )
        })?;
        let mut line = named.line(&self.prefix, cluster);
        if named.name == "set" && self.ttl.is_some() {
            line.push_str(" EX __ttl__");
        }
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        self.commands.push(Command {
            name: named.name.to_uppercase(),
            key: (words.len() > 1 && named.name != "scan").then_some(1),
            words,
            weight,
            prepare: named.preparation(cluster),
        });
        Ok(())
    }

    /// Adds a command by its words.
    ///
    /// # Errors
    /// There are none.
    pub fn add_words(&mut self, words: Vec<String>, weight: u64) -> Result<(), String> {
        let name = words
            .first()
            .ok_or("a command without words")?
            .to_uppercase();
        // The first word with a key's number, or else the first that could be a key.
        let numbered = words
            .iter()
            .position(|w| w.contains("__key") || w.contains("__rand_int__"));
        self.commands.push(Command {
            name,
            key: numbered.or((words.len() > 1).then_some(1)),
            words,
            weight,
            prepare: None,
        });
        Ok(())
    }

    fn meaning(&self) -> Meaning {
        Meaning {
            data: self.data.clone(),
            ttl: self.ttl.clone().unwrap_or_else(|| Sizes::fixed(3600)),
            keys: self.keys,
        }
    }

    /// What has to be filled before the commands find something, each with how many keys.
    pub fn preparations(&self) -> Vec<(Work, u64)> {
        let mut seen: Vec<Preparation> = Vec::new();
        for command in &self.commands {
            if let Some(prepare) = command.prepare
                && !seen.contains(&prepare)
            {
                seen.push(prepare);
            }
        }
        seen.iter()
            .map(|prepare| {
                let mut line = prepare.line(&self.prefix);
                if line.starts_with("SET ") && self.ttl.is_some() {
                    line.push_str(" EX __ttl__");
                }
                self.filling(
                    line.split(' ').map(str::to_owned).collect(),
                    prepare.divisor,
                )
            })
            .collect()
    }

    /// Work that runs one command for each key, and how many there are.
    pub fn filling(&self, words: Vec<String>, divisor: u64) -> (Work, u64) {
        let count = self.keys.div_ceil(divisor).max(1);
        let command = Command {
            name: words.first().cloned().unwrap_or_default(),
            key: Some(1),
            words,
            weight: 1,
            prepare: None,
        };
        let work = Work {
            commands: vec![command],
            keys: count,
            distribution: Distribution::Sequential,
            ..self.clone()
        };
        (work, count)
    }
}

/// One run against one server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server; in a cluster, any of its nodes.
    pub target: Target,
    /// Whether the server is a node of a cluster, whose nodes are each sent what is theirs.
    pub cluster: bool,
    /// The load.
    pub load: Load,
    /// The commands.
    pub work: Work,
}

/// What all threads make commands with.
#[derive(Debug)]
pub(crate) struct Ready {
    pub templates: Vec<Template>,
    /// The sums of the weights up to each.
    pub weights: Vec<u64>,
    pub meaning: Meaning,
    pub pool: Arc<[u8]>,
}

impl Plan {
    pub(crate) fn ready(&self) -> Result<Ready, Failure> {
        let meaning = self.work.meaning();
        let mut longest = meaning.data.max();
        let mut templates = Vec::new();
        let mut weights = Vec::new();
        let mut sum = 0_u64;
        for command in &self.work.commands {
            let key = command.key.filter(|_| self.cluster);
            let template = Template::new(&command.words, key, &meaning).map_err(Failure::new)?;
            longest = longest.max(template.longest_data());
            templates.push(template);
            sum += command.weight;
            weights.push(sum);
        }
        if sum == 0 {
            return Err(Failure::new("there is no command to send"));
        }
        Ok(Ready {
            templates,
            weights,
            pool: template::pool(longest, self.load.seed),
            meaning,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_command_can_be_made() {
        for cluster in [false, true] {
            let mut work = Work {
                ttl: Some(Sizes::fixed(5)),
                ..Work::default()
            };
            for named in crate::named::NAMED {
                work.add_named(named.name, 1, cluster).expect("a name");
            }
            let preparations = work.preparations();
            assert_eq!(preparations.len(), if cluster { 6 } else { 5 });
            let plan = Plan {
                target: Target::plain(crate::net::Address::Tcp("h".into(), 1)),
                cluster,
                load: Load::default(),
                work,
            };
            assert_eq!(
                plan.ready().expect("all").templates.len(),
                crate::named::NAMED.len()
            );
            for (work, count) in preparations {
                assert!(count == 100_000 || count == 10_000);
                let plan = Plan {
                    work,
                    ..plan.clone()
                };
                plan.ready().expect("a preparation");
            }
        }
        let mut work = Work::default();
        assert!(work.add_named("nothing", 1, false).is_err());
        assert!(work.add_words(vec![], 1).is_err());
    }

    #[test]
    fn the_key_of_a_command_line_is_found() {
        let mut work = Work::default();
        let mut key = |line: &str| {
            let words = template::words(line).expect("words");
            work.add_words(words, 1).expect("a command");
            work.commands.last().and_then(|c| c.key)
        };
        assert_eq!(key("SET a:__key__ __data__"), Some(1));
        assert_eq!(key("EVAL script 1 a:__key__"), Some(3));
        assert_eq!(key("INCR counter"), Some(1));
        assert_eq!(key("PING"), None);
    }
}
