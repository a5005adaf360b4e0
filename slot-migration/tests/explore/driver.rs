//! The driver of the model: executor, log and network in their simplest form.

use std::collections::BTreeSet;

use holdfast_slot_migration::{
    Action, Answer, Applied, ClaimAction, GrantAction, JobId, JobOutcome, Migrations, Request,
    RequestId, ShardId, SlotRecord, SourceAction, TargetAction,
};

use crate::world::{Asker, Back, Data, Entry, Item, Link, Mistake, Packet, World, limits, node_id};

fn index(shard: ShardId) -> usize {
    usize::from(shard.0[0]) - 1
}

impl World {
    /// Appends to the primary's log and executes effects at once.
    pub fn append(&mut self, shard: usize, entry: Entry) {
        let s = &mut self.shards[shard];
        if !s.up {
            return;
        }
        match &entry {
            Entry::Write { slot, id, .. } => {
                s.memory.entry(*slot).or_default().insert(*id);
            }
            Entry::Delete { slot, id } => {
                s.memory.entry(*slot).or_default().remove(id);
            }
            Entry::Record(SlotRecord::Abort { job } | SlotRecord::Staged { job, .. }) => {
                s.gated.insert(*job);
            }
            Entry::Record(_) | Entry::Blank => {}
        }
        s.log.push(entry);
    }

    /// Executes a write on the primary and streams it to the jobs that move its slot.
    pub fn execute(&mut self, shard: usize, slot: u16, id: u64, client: bool) {
        self.append(shard, Entry::Write { slot, id, client });
        let taps: Vec<JobId> = self.shards[shard].taps.iter().copied().collect();
        for job in taps {
            let tapped = self
                .links
                .iter()
                .any(|l| l.job == job && l.from == shard && l.slots.contains(slot));
            if tapped && self.mistake != Some(Mistake::NoTap) {
                self.stream(shard, job, slot, id);
            }
        }
    }

    fn stream(&mut self, shard: usize, job: JobId, slot: u16, id: u64) {
        let now = self.now();
        let link = self
            .links
            .iter_mut()
            .find(|l| l.job == job && l.from == shard && l.from_open);
        if let Some(link) = link {
            link.forth.push_back(Item::Data(slot, id));
            let s = &mut self.shards[shard];
            let streamed = s.streamed.entry(job).or_default();
            *streamed += 1;
            let position = *streamed;
            s.migrations
                .source(job, now, |it| it.on_streamed(position, 0, now));
            self.drive(shard);
        }
    }

    /// Commits and applies the next entry of a shard's log.
    pub fn commit(&mut self, shard: usize) {
        if self.shards[shard].up && self.shards[shard].committed < self.shards[shard].log.len() {
            self.apply_next(shard);
            self.drive(shard);
        }
    }

    fn apply_next(&mut self, shard: usize) {
        let now = self.now();
        let s = &mut self.shards[shard];
        let entry = s.log[s.committed].clone();
        s.committed += 1;
        match entry {
            Entry::Blank => {}
            Entry::Write { slot, id, client } => {
                s.data.entry(slot).or_default().insert(id);
                if client {
                    if !s.slots.owns(slot) && s.slots.importing(slot).is_none() {
                        self.broken = Some(format!(
                            "a client's write of slot {slot} was committed without owning it"
                        ));
                    }
                    if s.up {
                        self.acked.entry(slot).or_default().insert(id);
                        self.figures.acked += 1;
                    }
                }
            }
            Entry::Delete { slot, id } => {
                s.data.entry(slot).or_default().remove(&id);
            }
            Entry::Record(record) => {
                let result = s.slots.apply(&record);
                if let Ok(applied) = &result {
                    self.on_applied(shard, applied);
                }
                let s = &mut self.shards[shard];
                if s.up {
                    s.migrations.on_record(&record, now);
                    if s.migrations
                        .slots()
                        .is_some_and(|mirror| *mirror != s.slots)
                    {
                        self.broken = Some("the mirror of the slots differs".into());
                    }
                }
            }
        }
    }

    fn on_applied(&mut self, shard: usize, applied: &Applied) {
        let s = &mut self.shards[shard];
        let drop_keys = |data: &mut Data, slots: &holdfast_slot_migration::SlotRanges| {
            data.retain(|&slot, _| !slots.contains(slot));
        };
        match applied {
            Applied::HandedOff(job, handed_off) => {
                drop_keys(&mut s.data, &handed_off.slots);
                drop_keys(&mut s.memory, &handed_off.slots);
                s.paused.remove(job);
                s.taps.remove(job);
                self.decided.insert(*job);
                self.figures.hand_offs += 1;
            }
            Applied::StagingDropped(_, staging) => {
                drop_keys(&mut s.data, &staging.slots);
                drop_keys(&mut s.memory, &staging.slots);
                self.figures.aborted += 1;
            }
            Applied::Adopted(job, _) => {
                if !self.decided.contains(job) {
                    self.broken = Some(format!("job {job} was adopted before the decision"));
                }
                if s.imports.contains_key(job) {
                    s.imports.remove(job);
                } else if s.term > 1 {
                    self.figures.adopted_after_failover += 1;
                }
            }
            Applied::ClaimDropped(..)
            | Applied::Assigned(_)
            | Applied::Unassigned(_)
            | Applied::Exported(_)
            | Applied::ExportAborted(..)
            | Applied::StagingBegun(..)
            | Applied::Staged(_)
            | Applied::Claimed(_)
            | Applied::Forgotten(..)
            | Applied::SlotMarked(_) => {}
        }
    }

    /// The primary is gone: it crashes, or it is deposed and learns of it.
    pub fn fail_over(&mut self, shard: usize) {
        if !self.shards[shard].up {
            return;
        }
        self.figures.failovers += 1;
        let now = self.now();
        if self.chance(50) {
            self.shards[shard].migrations.on_office_lost(now);
            self.drive(shard);
        }
        // A primary that goes before it answers: the connection's end is an error.
        let gone: Vec<RequestId> = self
            .asked
            .iter()
            .filter(|(_, (asked, ..))| *asked == shard)
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            if let Some((_, to, term, asker)) = self.asked.remove(&id) {
                let answer = Err("connection closed".to_string());
                self.net.push(Packet::Reply {
                    to,
                    term,
                    asker,
                    answer,
                });
            }
        }
        let keep = self.below(self.shards[shard].log.len() - self.shards[shard].committed + 1);
        let s = &mut self.shards[shard];
        s.up = false;
        s.log.truncate(s.committed + keep);
        s.migrations = Migrations::new(node_id(shard), limits(), 10);
        s.paused.clear();
        s.taps.clear();
        s.snapshots.clear();
        s.streamed.clear();
        s.imports.clear();
        s.gated.clear();
        for i in 0..self.links.len() {
            let link = &mut self.links[i];
            if link.from == shard {
                link.from_open = false;
                link.back.clear();
            }
            if link.to == shard {
                link.to_open = false;
                link.forth.clear();
            }
        }
    }

    /// A new primary takes office once everything before its term is applied.
    pub fn elect(&mut self, shard: usize) {
        let now = self.now();
        while self.shards[shard].committed < self.shards[shard].log.len() {
            self.apply_next(shard);
        }
        let s = &mut self.shards[shard];
        s.memory = s.data.clone();
        s.term += 1;
        s.up = true;
        s.log.push(Entry::Blank);
        s.committed += 1;
        s.migrations.on_office(s.slots.clone(), now);
        self.drive(shard);
    }

    pub fn cut_link(&mut self) {
        if !self.links.is_empty() {
            let i = self.below(self.links.len());
            self.links[i].cut = true;
        }
    }

    /// One thing happens on one link: something arrives, or an end learns that it is down.
    pub fn deliver_on_link(&mut self) {
        if self.links.is_empty() {
            return;
        }
        let i = self.below(self.links.len());
        let now = self.now();
        let forth = self.chance(60);
        let link = &mut self.links[i];
        let (job, from, to) = (link.job, link.from, link.to);
        // What was sent before the cut may still arrive.
        let lost = link.cut && now.mono_ms.is_multiple_of(2);
        if forth {
            match link.forth.pop_front() {
                Some(_) if lost => link.forth.clear(),
                Some(_) if !link.to_open => {}
                Some(item) => return self.arrive(i, item),
                None if link.to_open && (link.cut || !link.from_open) => {
                    link.to_open = false;
                    if link.joined && self.shards[to].up {
                        self.shards[to]
                            .migrations
                            .target(job, now, |it| it.on_link_down(now));
                        self.drive(to);
                    }
                }
                None => {}
            }
        } else {
            match link.back.pop_front() {
                Some(_) if lost => link.back.clear(),
                Some(_) if !link.from_open => {}
                Some(Back::Established(reply)) => {
                    self.shards[from]
                        .migrations
                        .source(job, now, |it| it.on_establish_reply(reply, now));
                    self.drive(from);
                }
                Some(Back::Message(message)) => {
                    self.shards[from]
                        .migrations
                        .source(job, now, |it| it.on_message(message, now));
                    self.drive(from);
                }
                None if link.from_open && (link.cut || !link.to_open) => {
                    link.from_open = false;
                    self.shards[from]
                        .migrations
                        .source(job, now, |it| it.on_link_down("reset", now));
                    self.drive(from);
                }
                None => {}
            }
        }
        self.links.retain(|l| l.from_open || l.to_open);
    }

    fn arrive(&mut self, i: usize, item: Item) {
        let now = self.now();
        let link = &mut self.links[i];
        let (job, from, to, slots) = (link.job, link.from, link.to, link.slots.clone());
        match item {
            Item::Establish => {
                let m = &mut self.shards[to].migrations;
                match m.establish(job, slots, crate::world::shard_id(from), node_id(from), now) {
                    Ok(()) => link.joined = true,
                    Err(error) => {
                        link.back.push_back(Back::Established(Err(error)));
                        link.to_open = false;
                    }
                }
            }
            Item::Data(slot, id) => {
                let s = &self.shards[to];
                let gated = s.gated.contains(&job) && self.mistake != Some(Mistake::DataAfterAbort);
                if !gated && s.imports.contains_key(&job) {
                    self.append(
                        to,
                        Entry::Write {
                            slot,
                            id,
                            client: false,
                        },
                    );
                    let s = &mut self.shards[to];
                    let executed = s.imports.entry(job).or_default();
                    *executed += 1;
                    let executed = *executed;
                    s.migrations
                        .target(job, now, |it| it.on_executed(executed, now));
                }
            }
            Item::Message(message) => {
                let executed = self.shards[to].imports.get(&job).copied().unwrap_or(0);
                self.shards[to]
                    .migrations
                    .target(job, now, |it| it.on_message(message, executed, now));
            }
        }
        self.drive(to);
    }

    pub fn snapshot_step(&mut self, shard: usize) {
        let now = self.now();
        let jobs: Vec<JobId> = self.shards[shard].snapshots.keys().copied().collect();
        for job in jobs {
            let s = &mut self.shards[shard];
            if !s
                .migrations
                .source_job(job)
                .is_some_and(|it| it.wants_snapshot_step())
            {
                continue;
            }
            let next = s.snapshots.get_mut(&job).and_then(|keys| keys.pop_front());
            let done = s.snapshots.get(&job).is_none_or(|keys| keys.is_empty());
            if let Some((slot, id)) = next {
                *s.sent.entry(job).or_default() += 1;
                self.stream(shard, job, slot, id);
            }
            let s = &mut self.shards[shard];
            if done {
                s.snapshots.remove(&job);
            }
            let sent = s.sent.get(&job).copied().unwrap_or(0);
            s.migrations
                .source(job, now, |it| it.on_snapshot_progress(sent, done, now));
            self.drive(shard);
        }
    }

    fn ask(&mut self, from: usize, to: usize, asker: Asker, request: Request) {
        let term = self.shards[from].term;
        self.net.push(Packet::Request {
            from,
            term,
            to,
            asker,
            request,
        });
    }

    /// One packet arrives, or is lost (its sender learns of an error), or arrives and will arrive again.
    pub fn deliver_packet(&mut self) {
        if self.net.is_empty() {
            return;
        }
        let i = self.below(self.net.len());
        let again = !self.healing && self.chance(20);
        let packet = if again {
            self.net[i].clone()
        } else {
            self.net.swap_remove(i)
        };
        let lost = !self.healing && self.chance(15);
        let now = self.now();
        match packet {
            Packet::Request {
                from,
                term,
                to,
                asker,
                request,
            } => {
                if lost || !self.shards[to].up {
                    if !again {
                        let answer = Err("no answer".to_string());
                        self.net.push(Packet::Reply {
                            to: from,
                            term,
                            asker,
                            answer,
                        });
                    }
                    return;
                }
                if self.mistake == Some(Mistake::AnswerUncommitted)
                    && let Request::Outcome(job) = request
                    && self.shards[to].slots.outcome(job) == JobOutcome::Undecided
                {
                    let answer = Ok(Answer::Outcome(JobOutcome::Aborted));
                    self.net.push(Packet::Reply {
                        to: from,
                        term,
                        asker,
                        answer,
                    });
                    return;
                }
                let id = RequestId(self.fresh());
                let fresh = self.fresh_job();
                self.asked.insert(id, (to, from, term, asker));
                self.shards[to]
                    .migrations
                    .on_request(id, request, fresh, now);
                self.drive(to);
            }
            Packet::Reply {
                to,
                term,
                asker,
                answer,
            } => {
                if lost && !again {
                    let answer = Err("no answer".to_string());
                    self.net.push(Packet::Reply {
                        to,
                        term,
                        asker,
                        answer,
                    });
                    return;
                }
                if !self.shards[to].up || self.shards[to].term != term {
                    return;
                }
                self.answered(to, asker, answer);
            }
        }
    }

    fn answered(&mut self, shard: usize, asker: Asker, answer: Result<Answer, String>) {
        let now = self.now();
        let m = &mut self.shards[shard].migrations;
        let done = |answer: Result<Answer, String>| match answer {
            Ok(Answer::Done) => Ok(()),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        };
        let outcome = |answer: Result<Answer, String>| match answer {
            Ok(Answer::Outcome(outcome)) => Ok(outcome),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        };
        match asker {
            Asker::Source(job) => m.source(job, now, |it| it.on_delivery(done(answer), now)),
            Asker::Target(job) => m.target(job, now, |it| it.on_answer(outcome(answer), now)),
            Asker::ClaimExport(id) => m.on_claim(id, now, |it| {
                it.on_exported(match answer {
                    Ok(Answer::Job(job)) => Ok(job),
                    Ok(other) => Err(format!("{other:?}")),
                    Err(error) => Err(error),
                });
            }),
            Asker::ClaimHandOff(id) => m.on_claim(id, now, |it| it.on_hand_off(done(answer), now)),
            Asker::ClaimAsk(id) => m.on_claim(id, now, |it| it.on_answer(outcome(answer), now)),
        }
        self.drive(shard);
    }

    /// Does what the shard's jobs want done.
    pub fn drive(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].migrations.poll_action() {
            match action {
                Action::Propose(record) => self.append(shard, Entry::Record(record)),
                Action::Source(job, action) => self.drive_source(shard, job, action),
                Action::Target(job, action) => self.drive_target(shard, job, action),
                Action::Claim(id, action) => match action {
                    ClaimAction::RequestExport(source) => {
                        let slots = self.claimed_slots(shard, id);
                        let (target, target_node) = (crate::world::shard_id(shard), node_id(shard));
                        let request = Request::Export {
                            slots,
                            target,
                            target_node,
                        };
                        self.ask(shard, index(source), Asker::ClaimExport(id), request);
                    }
                    ClaimAction::Propose(record) => self.append(shard, Entry::Record(record)),
                    ClaimAction::RequestHandOff(source, job) => {
                        self.ask(
                            shard,
                            index(source),
                            Asker::ClaimHandOff(id),
                            Request::HandOff(job),
                        );
                    }
                    ClaimAction::Ask(source, job) => {
                        self.ask(
                            shard,
                            index(source),
                            Asker::ClaimAsk(id),
                            Request::Outcome(job),
                        );
                    }
                    ClaimAction::Finished(result) => {
                        self.figures.claims_adopted += u64::from(result.is_ok())
                    }
                },
                Action::Grant(job, action) => match action {
                    GrantAction::Propose(record) => self.append(shard, Entry::Record(record)),
                    GrantAction::ProposeIfEmpty(record, slots) => {
                        let keys = |slot| {
                            self.shards[shard]
                                .memory
                                .get(&slot)
                                .is_some_and(|k| !k.is_empty())
                        };
                        if slots.iter().any(keys) && self.mistake != Some(Mistake::GiveWithKeys) {
                            let now = self.now();
                            let m = &mut self.shards[shard].migrations;
                            m.on_grant(job, now, |it| it.on_refused("keys are left"));
                        } else {
                            self.shards[shard].paused.insert(job, slots);
                            self.append(shard, Entry::Record(record));
                        }
                    }
                    GrantAction::Resume => {
                        self.shards[shard].paused.remove(&job);
                    }
                    other => panic!("the manager keeps {other:?}"),
                },
                Action::Reply(id, answer) => {
                    if let Some((_, to, term, asker)) = self.asked.remove(&id) {
                        self.net.push(Packet::Reply {
                            to,
                            term,
                            asker,
                            answer,
                        });
                    }
                }
            }
        }
    }

    fn claimed_slots(
        &self,
        shard: usize,
        id: holdfast_slot_migration::ClaimId,
    ) -> holdfast_slot_migration::SlotRanges {
        self.shards[shard]
            .migrations
            .claim_slots(id)
            .cloned()
            .unwrap_or_default()
    }

    fn link(&mut self, shard: usize, job: JobId) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|l| l.job == job && (l.from == shard || l.to == shard))
    }

    fn drive_source(&mut self, shard: usize, job: JobId, action: SourceAction) {
        let now = self.now();
        match action {
            SourceAction::Propose(record) => {
                let decides = matches!(record, SlotRecord::HandOff { .. });
                if decides
                    && !self.shards[shard].paused.contains_key(&job)
                    && self.mistake != Some(Mistake::NoPause)
                {
                    self.broken = Some("a hand-off is proposed without a pause".into());
                }
                self.append(shard, Entry::Record(record));
            }
            SourceAction::Connect(node) => {
                let to = usize::from(node.0[0]) - 1;
                let slots = self.shards[shard]
                    .migrations
                    .source_job(job)
                    .map(|it| it.slots().clone());
                if !self.shards[to].up || (!self.healing && self.chance(5)) {
                    self.shards[shard]
                        .migrations
                        .source(job, now, |it| it.on_link_down("refused", now));
                    return;
                }
                self.links.push(Link {
                    job,
                    slots: slots.unwrap_or_default(),
                    from: shard,
                    to,
                    forth: Default::default(),
                    back: Default::default(),
                    from_open: true,
                    to_open: true,
                    cut: false,
                    joined: false,
                });
                self.shards[shard]
                    .migrations
                    .source(job, now, |it| it.on_connected(now));
            }
            SourceAction::Establish => {
                if let Some(link) = self.link(shard, job) {
                    link.forth.push_back(Item::Establish);
                }
            }
            SourceAction::BeginSnapshot => {
                let s = &mut self.shards[shard];
                let Some(slots) = s.migrations.source_job(job).map(|it| it.slots().clone()) else {
                    return;
                };
                let keys = |(&slot, ids): (&u16, &BTreeSet<u64>)| {
                    ids.iter().map(move |&id| (slot, id)).collect::<Vec<_>>()
                };
                let keys: Vec<(u16, u64)> = s
                    .memory
                    .iter()
                    .filter(|(slot, _)| slots.contains(**slot))
                    .flat_map(keys)
                    .collect();
                let count = keys.len() as u64;
                s.snapshots.insert(job, keys.into());
                s.taps.insert(job);
                s.migrations
                    .source(job, now, |it| it.on_snapshot_begun(count, now));
            }
            SourceAction::Send(message) => {
                if let Some(link) = self.link(shard, job) {
                    link.forth.push_back(Item::Message(message));
                }
            }
            SourceAction::Pause => {
                let s = &mut self.shards[shard];
                let Some(slots) = s.migrations.source_job(job).map(|it| it.slots().clone()) else {
                    return;
                };
                if self.mistake != Some(Mistake::NoPause) {
                    s.paused.insert(job, slots);
                }
                let position = s.streamed.get(&job).copied().unwrap_or(0);
                s.migrations
                    .source(job, now, |it| it.on_paused(position, now));
            }
            SourceAction::Resume => {
                self.shards[shard].paused.remove(&job);
            }
            SourceAction::CloseLink => {
                let s = &mut self.shards[shard];
                s.taps.remove(&job);
                s.snapshots.remove(&job);
                if let Some(link) = self.link(shard, job) {
                    link.from_open = false;
                }
            }
            SourceAction::Deliver(handed_off) => {
                self.ask(
                    shard,
                    index(handed_off.target),
                    Asker::Source(job),
                    Request::HandedOff(job),
                );
            }
            SourceAction::Finished(_) => {}
        }
    }

    fn drive_target(&mut self, shard: usize, job: JobId, action: TargetAction) {
        let now = self.now();
        match action {
            TargetAction::Propose(record) => self.append(shard, Entry::Record(record)),
            TargetAction::ReplyEstablish(reply) => {
                if reply.is_ok() {
                    self.shards[shard].imports.insert(job, 0);
                }
                if let Some(link) = self.link(shard, job) {
                    link.back.push_back(Back::Established(reply));
                }
            }
            TargetAction::Send(message) => {
                if let Some(link) = self.link(shard, job) {
                    link.back.push_back(Back::Message(message));
                }
            }
            TargetAction::CloseLink if self.mistake == Some(Mistake::DataAfterAbort) => {}
            TargetAction::CloseLink => {
                if let Some(link) = self.link(shard, job) {
                    link.to_open = false;
                }
            }
            TargetAction::Ask { source, .. } => {
                let by_itself = match self.mistake {
                    Some(Mistake::AdoptInDoubt) => Some(JobOutcome::HandedOff),
                    Some(Mistake::AbortInDoubt) => Some(JobOutcome::Aborted),
                    _ => None,
                };
                match by_itself {
                    Some(outcome) => {
                        self.shards[shard]
                            .migrations
                            .target(job, now, |it| it.on_answer(Ok(outcome), now));
                    }
                    None => self.ask(
                        shard,
                        index(source),
                        Asker::Target(job),
                        Request::Outcome(job),
                    ),
                }
            }
            TargetAction::Finished(_) => {}
        }
    }
}
