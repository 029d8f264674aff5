//! Asks Prometheus what the routes say, and remembers the last answer to each query for `/stats`. Every router asks for itself: where one
//! of them ends, the others' answers go on. The routes are a tenant's, and so is whoever answers: times, sizes and addresses are bounded.

mod answer;
mod ask;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace_routes::{Query, QueryStats};
use tokio::sync::Semaphore;

use crate::dial::Reach;
use crate::state::{State, lock};
use answer::Answer;

/// Between two questions of one query.
const EVERY: Duration = Duration::from_secs(10);
/// A question that has no answer in this time has none.
const WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked which query is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Questions at once.
const AT_ONCE: usize = 8;
/// Characters of what is said of a question.
const LONGEST: usize = 300;

/// The last answer to each query, by its id.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<String, Said>>);

#[derive(Debug)]
struct Said {
    due: Instant,
    asking: bool,
    value: Option<f64>,
    /// When the question of the last answer was asked.
    answered: Option<Instant>,
    errors: u64,
    problem: Option<String>,
}

impl Answers {
    pub fn stats(&self, id: &str) -> QueryStats {
        let all = lock(&self.0);
        let Some(said) = all.get(id) else { return QueryStats::default() };
        QueryStats {
            value: said.value,
            age_ms: said.answered.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            errors: said.errors,
            problem: said.problem.clone(),
        }
    }

    /// Those of these queries that are to be asked now. All others are forgotten.
    fn due(&self, queries: Vec<Arc<Query>>, now: Instant) -> Vec<Arc<Query>> {
        let mut all = lock(&self.0);
        let known: HashSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
        all.retain(|id, _| known.contains(id.as_str()));
        let mut due = |query: &Arc<Query>| {
            let said = all.entry(query.id.clone()).or_insert_with(|| Said {
                due: now,
                asking: false,
                value: None,
                answered: None,
                errors: 0,
                problem: None,
            });
            let asks = !said.asking && said.due <= now;
            if asks {
                (said.asking, said.due) = (true, now + EVERY);
            }
            asks
        };
        queries.into_iter().filter(|query| due(query)).collect()
    }

    fn take(&self, id: &str, asked: Instant, answer: Result<Answer, String>) {
        let mut all = lock(&self.0);
        // It has left the routes meanwhile.
        let Some(said) = all.get_mut(id) else { return };
        said.asking = false;
        match answer {
            Ok(Answer { value, problem }) => {
                (said.value, said.answered, said.errors) = (value, Some(asked), 0);
                said.problem = problem;
            }
            Err(problem) => {
                said.errors = said.errors.saturating_add(1);
                said.problem = Some(plain(&problem));
            }
        }
    }
}

/// Bounded, and in one line: it becomes part of a condition.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// Asks for as long as the process lives.
pub async fn follow(state: Arc<State>, reach: Arc<Reach>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let queries = state.models().iter().flat_map(|model| model.policy().queries.clone()).collect();
        for query in state.answers.due(queries, Instant::now()) {
            let (state, reach, at_once) = (state.clone(), reach.clone(), at_once.clone());
            tokio::spawn(async move {
                let _place = at_once.acquire().await;
                let asked = Instant::now();
                let answer = tokio::time::timeout(WITHIN, ask::ask(&query, &reach)).await;
                let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {} s", WITHIN.as_secs())));
                state.answers.take(&query.id, asked, answer.and_then(|said| answer::read(said.status, &said.body)));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: &str) -> Arc<Query> {
        let (address, query) = ("http://p".to_owned(), "up".to_owned());
        Arc::new(Query { id: id.to_owned(), address, query, token: None, ca: None })
    }

    #[test]
    fn a_query_is_asked_every_ten_seconds_and_never_twice_at_once() {
        let (answers, now) = (Answers::default(), Instant::now());
        let due = |seconds: u64| answers.due(vec![query("a")], now + Duration::from_secs(seconds)).len();
        assert_eq!((due(0), due(1), due(20)), (1, 0, 0), "it has no answer yet");
        answers.take("a", now, Ok(Answer { value: Some(1.5), problem: None }));
        assert_eq!((due(9), due(10), due(11)), (0, 1, 0));
    }

    #[test]
    fn an_answer_stays_while_others_are_missing_and_those_are_counted() {
        let (answers, now) = (Answers::default(), Instant::now());
        answers.due(vec![query("a")], now);
        assert_eq!(answers.stats("a"), QueryStats::default());
        let refused = || Err("refused\nby all ".repeat(100));
        answers.take("a", now, refused());
        assert_eq!((answers.stats("a").age_ms, answers.stats("a").errors), (None, 1));
        answers.take("a", now, Ok(Answer { value: Some(1.5), problem: None }));
        answers.take("a", now, refused());
        answers.take("a", now, refused());
        let QueryStats { value, age_ms, errors, problem } = answers.stats("a");
        assert_eq!((value, errors, age_ms.is_some()), (Some(1.5), 2, true));
        let problem = problem.unwrap();
        assert!(problem.len() == LONGEST && !problem.contains('\n'), "{problem}");
        answers.take("a", now, Ok(Answer { value: None, problem: Some("NaN".to_owned()) }));
        let stats = answers.stats("a");
        assert_eq!((stats.value, stats.errors, stats.problem.as_deref()), (None, 0, Some("NaN")));
        assert!(answers.due(vec![], now).is_empty());
        answers.take("a", now, Ok(Answer { value: Some(2.0), problem: None }));
        assert_eq!(answers.stats("a"), QueryStats::default(), "it has left the routes");
    }
}
