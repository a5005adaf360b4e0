//! `MULTI`, `EXEC`, `WATCH`: what happens to the state; the commands are in [`crate::commands`].

use super::{ConnId, Executor};
use holdfast_resp::write;
use smallvec::SmallVec;

impl Executor {
    /// Executes what is queued, as one unit of effects.
    pub(crate) fn exec(&mut self, id: ConnId) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let Some(multi) = c.multi.take() else {
            return self.reply_error(id, "ERR EXEC without MULTI");
        };
        let proto = c.proto;
        let broken = c.watch_broken || self.watched_key_expired(id);
        self.unwatch(id);
        if multi.aborted {
            return self.reply_error(
                id,
                "EXECABORT Transaction discarded because of previous errors.",
            );
        }
        if broken {
            return write::null_array(self.out(id), proto);
        }
        write::array(self.out(id), multi.queue.len());
        self.fx.begin_unit();
        self.executing_transaction = true;
        for argv in &multi.queue {
            let argv: SmallVec<[&[u8]; 16]> = argv.iter().map(|a| &a[..]).collect();
            let table = self.table;
            match table.find(&argv) {
                Some(entry) => self.run(id, entry, &argv, false),
                None => self.reply_error(id, "ERR unknown command"),
            }
            self.deliver_events();
        }
        self.executing_transaction = false;
        self.fx.end_unit();
        // The unit's frame is part of what the reply depends on.
        self.settle_unit();
    }

    /// Whether a command is being executed by `EXEC`: it may not wait.
    pub(crate) fn is_executing_transaction(&self) -> bool {
        self.executing_transaction
    }

    /// Forgets a transaction and its watches.
    pub(crate) fn discard(&mut self, id: ConnId) {
        if let Some(c) = self.conns.get_mut(id) {
            c.multi = None;
        }
        self.unwatch(id);
    }

    /// Watches a key.
    pub(crate) fn watch(&mut self, id: ConnId, key: &[u8]) {
        let Some(db) = self.conns.get(id).map(|c| c.db) else {
            return;
        };
        let exists = self.key_exists(db, key);
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let key = (db, Box::from(key));
        if c.watched.contains_key(&key) {
            return;
        }
        c.watched.insert(key.clone(), exists);
        self.watchers.entry(key).or_default().insert(id);
        self.update_tracking();
    }

    /// Watches nothing any more.
    pub(crate) fn unwatch(&mut self, id: ConnId) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.watch_broken = false;
        if c.watched.is_empty() {
            return;
        }
        for key in std::mem::take(&mut c.watched).into_keys() {
            if let Some(ids) = self.watchers.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.watchers.remove(&key);
                }
            }
        }
        self.update_tracking();
    }

    /// Whether a key that was there when it was watched has expired since, noticed by nobody.
    fn watched_key_expired(&mut self, id: ConnId) -> bool {
        let Some(c) = self.conns.get(id) else {
            return false;
        };
        let keys: Vec<(u16, Box<[u8]>)> = c
            .watched
            .iter()
            .filter(|(_, was)| **was)
            .map(|(key, _)| key.clone())
            .collect();
        keys.iter().any(|(db, key)| !self.key_exists(*db, key))
    }
}
