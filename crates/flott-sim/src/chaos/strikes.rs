//! What is done to a running job.

use super::counts::Strike;
use super::point::Point;
use super::process::{Process, Said, rest};
use super::round::{Asked, Done, HEAL_LIMIT, Round, Turn};
use std::time::Duration;

/// How long a process may take to come to the point at which it is halted; then something else is done to it.
const POINT_LIMIT: Duration = Duration::from_millis(1_200);
/// How long a job that was asked to stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The longest time that a process is stopped.
const PAUSE_MS_MAX: u64 = 900;

impl Round<'_> {
    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.below(to - from))
    }

    /// Does something to the job; afterwards somebody runs it, unless it has ended.
    pub(crate) fn strike(&mut self) -> Done {
        if let Some(point) = self.armed {
            let until = self.env.now() + POINT_LIMIT;
            while let Some(said) = self.hear(until)? {
                if said == Said::At {
                    return self.strike_at(point);
                }
                if said.is_end() {
                    return self.on_end(said);
                }
            }
            // It has not come there; what happens instead must not be held up by it.
            self.go();
        }
        let early = self.rng.below(12) < 2;
        let pause = if early { self.millis(1, 50) } else { self.millis(20, 500) };
        if self.pass(pause)? == Turn::Ended {
            return Ok(Turn::Ended);
        }
        if early { self.kill(Strike::KillEarly) } else { self.strike_now() }
    }

    fn strike_now(&mut self) -> Done {
        match self.rng.below(14) {
            0..=3 => self.kill(Strike::Kill),
            4 | 5 => self.replace(Strike::Zombie, None),
            6 => self.pause(),
            7 | 8 if self.disk.is_some() => self.full_disk(),
            9 => self.jump(),
            10 => {
                self.count(Strike::Savepoint);
                self.ask("savepoint");
                Ok(Turn::GoesOn)
            }
            11 => self.end(Asked::Stop),
            12 if self.counts.n_checkpoints > 0 => self.end(Asked::Cancel),
            _ => self.kill(Strike::Kill),
        }
    }

    fn ask(&mut self, line: &str) {
        if let Some(current) = &mut self.current {
            current.ask(line);
        }
    }

    fn kill(&mut self, strike: Strike) -> Done {
        self.count(strike);
        if let Some(current) = &mut self.current {
            current.kill();
        }
        self.after_death()
    }

    /// The process is halted at a point.
    fn strike_at(&mut self, point: Point) -> Done {
        self.armed = None;
        match self.rng.below(10) {
            6..=8 => self.replace(Strike::ZombieAtPoint, Some(point)),
            9 => self.replace(Strike::TwinAtPoint, Some(point)),
            _ => {
                self.counts.points.entry((point.step, point.side)).or_default().n_killed += 1;
                // The others go on for a while, or not.
                if self.rng.one_in(2) {
                    rest(self.millis(1, 40));
                }
                self.kill(Strike::KillAtPoint)
            }
        }
    }

    /// Takes the process for dead and starts another; then it goes on.
    fn replace(&mut self, strike: Strike, halted_at: Option<Point>) -> Done {
        let is_stopped = strike != Strike::TwinAtPoint;
        if let Some(zombie) = self.current.as_ref().filter(|_| is_stopped) {
            zombie.signal("-STOP")?;
        }
        // What it has said before it was stopped.
        let until = self.env.now() + Duration::from_millis(2);
        while let Some(said) = self.hear(until)? {
            if said.is_end() {
                return self.on_end(said);
            }
        }
        let Some(mut zombie) = self.current.take() else { return Err("nobody runs".to_owned()) };
        let revive = |zombie: &mut Process| -> Done<()> {
            if is_stopped {
                zombie.signal("-CONT")?;
            }
            if halted_at.is_some() {
                zombie.ask("go");
            }
            Ok(())
        };
        let generation = self.newest_owner();
        if self.has_ended()? || generation == zombie.owner_before {
            // It is about to end, and to start it again would be to run it anew; or it does not own the job yet, and will when it goes on.
            self.count(Strike::Pause);
            revive(&mut zombie)?;
            self.current = Some(zombie);
            return Ok(Turn::GoesOn);
        }
        self.count(strike);
        if let Some(point) = halted_at {
            self.counts.points.entry((point.step, point.side)).or_default().n_replaced += 1;
        }
        self.start()?;
        let turn = self.succeed(generation)?;
        zombie.has_suffered |= self.is_full;
        revive(&mut zombie)?;
        self.settle(zombie, turn)
    }

    /// Lets the successor of a generation run for a while, at least until it owns the job: a job that has no owner yet may still be ended by the
    /// zombie, and would then be run anew.
    fn succeed(&mut self, generation: u64) -> Done {
        let limit = if self.rng.one_in(3) { self.millis(5, 60) } else { self.millis(60, PAUSE_MS_MAX) };
        let (mut until, mut n_checkpoints) = (self.env.now() + limit, 0);
        let last = self.env.now() + HEAL_LIMIT;
        loop {
            while let Some(said) = self.hear(until)? {
                n_checkpoints += u64::from(said == Said::Checkpoint);
                if said == Said::At {
                    self.go();
                }
                if said.is_end() && self.on_end(said)? == Turn::Ended {
                    return Ok(Turn::Ended);
                }
                // Some work of its own is at stake.
                if n_checkpoints == 3 {
                    break;
                }
            }
            if self.newest_start() > generation {
                self.tell(format!(
                    "the zombie goes on; its successor has written {n_checkpoints} checkpoints"
                ));
                return Ok(Turn::GoesOn);
            }
            if self.env.now() > last {
                return Err("the successor of a job does not start".to_owned());
            }
            until = self.env.now() + Duration::from_millis(5);
        }
    }

    /// The current process is not held up any more.
    pub(crate) fn go(&mut self) {
        self.armed = None;
        self.ask("go");
    }

    /// The zombie must notice that it was taken over.
    fn settle(&mut self, zombie: Process, mut turn: Turn) -> Done {
        let until = self.env.now() + HEAL_LIMIT;
        while self.env.now() < until {
            self.check_output()?;
            match zombie.hear(Duration::from_millis(5)) {
                Some(Said::Failed(kind, report)) => {
                    if kind == "Fenced" {
                        self.counts.n_fenced += 1;
                    } else if !zombie.has_suffered {
                        return Err(format!("a job that was taken over has failed otherwise: {report}"));
                    }
                    return Ok(turn);
                }
                Some(Said::Gone) if zombie.has_suffered => return Ok(turn),
                Some(said @ (Said::Gone | Said::Finished | Said::Canceled)) => {
                    return Err(format!("a job that was taken over has ended: {said:?}"));
                }
                _ => {}
            }
            if turn == Turn::Ended {
                continue;
            }
            match self.hear(self.env.now())? {
                Some(Said::At) => self.go(),
                Some(Said::Failed(kind, report)) if kind == "Fenced" => {
                    return Err(format!("a process that was taken over has taken the job back: {report}"));
                }
                Some(said) if said.is_end() => turn = self.on_end(said)?,
                _ => {}
            }
        }
        Err("a job that was taken over does not notice it".to_owned())
    }

    fn pause(&mut self) -> Done {
        self.count(Strike::Pause);
        let limit = self.millis(20, PAUSE_MS_MAX);
        if let Some(current) = &self.current {
            current.signal("-STOP")?;
            rest(limit);
            current.signal("-CONT")?;
        }
        Ok(Turn::GoesOn)
    }

    fn jump(&mut self) -> Done {
        self.count(Strike::ClockJump);
        let jumps = [-86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 86_400_000];
        let ms: i64 = jumps.get(self.rng.below(6) as usize).copied().unwrap_or_default();
        self.ask(&format!("clock {ms}"));
        Ok(Turn::GoesOn)
    }

    fn full_disk(&mut self) -> Done {
        self.count(Strike::DiskFull);
        self.refill(true)?;
        if let Some(current) = &mut self.current {
            current.has_suffered = true;
        }
        let pause = self.millis(10, 400);
        let mut turn = self.pass(pause)?;
        if turn == Turn::GoesOn && self.rng.one_in(3) {
            turn = self.kill(Strike::Kill)?;
            let pause = self.millis(10, 100);
            if turn == Turn::GoesOn {
                turn = self.pass(pause)?;
            }
        }
        self.refill(false)?;
        Ok(turn)
    }

    /// Ends the job, to start it again from where it was.
    fn end(&mut self, asked: Asked) -> Done {
        let (strike, line) = match asked {
            Asked::Stop => (Strike::StopWithSavepoint, "stop"),
            Asked::Cancel => (Strike::Cancel, "cancel"),
        };
        self.count(strike);
        self.asked = Some(asked);
        self.ask(line);
        if self.rng.one_in(2) {
            let pause = self.millis(1, 80);
            let until = self.env.now() + pause;
            while let Some(said) = self.hear(until)? {
                if said.is_end() {
                    return self.on_end(said);
                }
            }
            return self.kill(Strike::Kill);
        }
        let until = self.env.now() + STOP_LIMIT;
        while let Some(said) = self.hear(until)? {
            if said.is_end() {
                return self.on_end(said);
            }
            if self.asked.is_none() {
                // It was refused: the job goes on.
                return Ok(Turn::GoesOn);
            }
        }
        Err(format!("the job does not {line}"))
    }
}
