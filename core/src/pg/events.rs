//! Events that wait to be polled.

use std::collections::VecDeque;

use super::request::{Event, RequestId};

/// What unasked events may hold together, in bytes; the newest is kept in any case.
const UNASKED_BYTES: usize = 1 << 20;

/// A queue in order of arrival. Answers are never dropped (they are bounded by what one `receive` was given); of what
/// comes unasked the oldest is.
pub(super) struct Events {
    queue: VecDeque<Event>,
    unasked_limit: usize,
    unasked: usize,
    unasked_bytes: usize,
    dropped: u64,
}

impl Events {
    pub(super) fn new(unasked_limit: usize) -> Self {
        Events { queue: VecDeque::new(), unasked_limit, unasked: 0, unasked_bytes: 0, dropped: 0 }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    pub(super) fn push_unasked(&mut self, event: Event) {
        self.unasked += 1;
        self.unasked_bytes += size(&event);
        self.queue.push_back(event);
        while self.unasked > 1 && (self.unasked > self.unasked_limit || self.unasked_bytes > UNASKED_BYTES) {
            let oldest = self.queue.iter().position(is_unasked).expect("counted");
            let event = self.queue.remove(oldest).expect("found");
            self.forget(&event);
            self.dropped += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        if is_unasked(&event) {
            self.forget(&event);
        }
        Some(event)
    }

    pub(super) fn drop_request(&mut self, id: RequestId) {
        self.queue.retain(|event| event.request() != Some(id));
    }

    pub(super) fn drop_requests(&mut self) {
        self.queue.retain(|event| event.request().is_none());
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget(&mut self, event: &Event) {
        self.unasked -= 1;
        self.unasked_bytes -= size(event);
    }
}

fn is_unasked(event: &Event) -> bool {
    matches!(event, Event::Notice(_) | Event::Notification { .. } | Event::Parameter { .. })
}

fn size(event: &Event) -> usize {
    match event {
        Event::Notice(notice) => notice.size(),
        Event::Notification { channel, payload, .. } => channel.len() + payload.len(),
        Event::Parameter { name, value } => name.len() + value.len(),
        _ => 0,
    }
}
