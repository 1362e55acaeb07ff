//! The trainer: a step is passes, gradients, clipping, updates.

mod average;
mod codes;

use crate::{
    Error, Result,
    checkpoint::{self, Saved, Weights},
    config::{RunConfig, groups},
    data::{self, Corpus, Order, Windows},
    distill::Teacher,
    evaluate::{Evaluation, evaluate},
    optim::{State, Update},
    parallel::{Team, norm},
    progress::{Event, Step},
};
use average::Average;
use bitnet_core::{Device, Tensor, memory::Owner};
use bitnet_model::{Decoder, Tokenizer};
use codes::Counter;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

/// Steps in a row without a finite loss and gradient after which a run ends.
const MAX_BAD_STEPS: u32 = 20;
/// Added to the norm of a gradient before the largest norm is divided by it, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f64 = 1e-6;

/// A weight besides its values.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    /// Hugging Face name.
    pub name: String,
    /// Whether it is a matrix of a layer.
    pub matrix: bool,
    /// What the learning rate is multiplied by.
    pub lr_scale: f64,
    /// What the pull towards zero is multiplied by: nothing for vectors.
    pub weight_decay_scale: f64,
}

/// A run: weights, what the optimizer remembers, data, and where it stands.
pub struct Trainer {
    config: RunConfig,
    tokenizer: Tokenizer,
    train: Corpus,
    valid: Corpus,
    /// Hashes of what is learnt from and of what is held out.
    fingerprints: [String; 2],
    decoder: Decoder,
    params: Vec<Param>,
    states: Vec<State>,
    order: Order,
    team: Team,
    average: Option<Average>,
    teacher: Option<Teacher>,
    /// What identifies the teacher of the checkpoint that is continued.
    teacher_before: Option<String>,
    codes: Counter,
    progress: checkpoint::Progress,
    bad_steps: u32,
}

/// Told of everything that happens in a run, with the trainer as it is then; says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(&Trainer, &Event) -> ControlFlow<()>;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps were made.
    Done,
    /// The losses on what is held out did not fall any more.
    Patience,
    /// Whoever watches said so.
    Stopped,
}

impl Trainer {
    /// A new run, its weights random or those of `base`.
    ///
    /// # Errors
    /// Where data, tokenizer or shape cannot be used, or there is no memory.
    pub fn new(config: RunConfig, device: &Device, base: Option<Decoder>) -> Result<Self> {
        let tokenizer = data::tokenizer_of(&config.data.tokenizer, &config.data.train)?;
        let train = data::read(&config.data.train, &tokenizer)?;
        let (train, valid) = match &config.data.valid {
            Some(path) => (train, data::read(path, &tokenizer)?),
            None => train.split(config.data.valid_fraction),
        };
        train.check(tokenizer.vocab_size(), config.data.context)?;
        if !valid.is_empty() {
            valid.check(tokenizer.vocab_size(), config.data.context)?;
        }
        let weights = Owner::enter("weights");
        let mut decoder = match base {
            Some(decoder) => decoder,
            None => {
                let shape = config.shape(tokenizer.vocab_size())?;
                Decoder::random(&shape, config.quantization(0), device, config.training.seed)?
            }
        };
        if tokenizer.vocab_size() > decoder.config.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), decoder.config.vocab_size);
            let rule = format!("a tokenizer of at most the {rows} tokens of the model");
            return Err(Error::Config { key: "data.tokenizer", value: format!("one of {tokens}"), rule });
        }
        decoder.recompute = config.training.recompute;
        drop(weights);
        let optimizer = Owner::enter("optimizer");
        let (mut params, mut states) = (Vec::new(), Vec::new());
        decoder.params(&mut |name, w| {
            let rank = w.shape().rank();
            let matrix = rank == 2 && name.starts_with("model.layers.");
            states.push(config.optimizer.state(w, matrix)?);
            let weight_decay_scale = if rank > 1 { 1.0 } else { 0.0 };
            params.push(Param { name: name.into(), matrix, lr_scale: 1.0, weight_decay_scale });
            Ok::<(), Error>(())
        })?;
        drop(optimizer);
        let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
        let groups = groups::assign(&config.groups, &names)?;
        for (param, group) in params.iter_mut().zip(groups).filter_map(|(param, group)| Some((param, group?)))
        {
            param.lr_scale = group.lr_scale;
            param.weight_decay_scale *= group.weight_decay_scale;
        }
        let fingerprints = [train.fingerprint(), valid.fingerprint()];
        let order = Order::new(train.len(), config.data.context, config.training.seed);
        let team = Team::new(config.training.workers)?;
        let average = {
            let _owner = Owner::enter("average");
            Average::new(config.training.ema, &mut decoder)?
        };
        let codes = Counter::new(config.quantization.weights);
        let progress = checkpoint::Progress::default();
        let mut trainer = Self {
            config,
            tokenizer,
            train,
            valid,
            fingerprints,
            decoder,
            params,
            states,
            order,
            team,
            average,
            teacher: None,
            teacher_before: None,
            codes,
            progress,
            bad_steps: 0,
        };
        trainer.codes.count(&mut trainer.decoder, 0)?;
        Ok(trainer)
    }

    /// Continues from the last checkpoint in the output folder, with the bits that a run without a break would have.
    ///
    /// # Errors
    /// Where there is none, it belongs to another configuration or other data, or a file of it is damaged.
    pub fn resume(config: RunConfig, device: &Device) -> Result<Self> {
        let path = checkpoint::last(&config.training.out)?;
        checkpoint::sweep(&config.training.out)?;
        let mut saved = checkpoint::load(&path, device)?;
        let decoder = {
            let _owner = Owner::enter("weights");
            saved.latent(config.quantization(0))?
        };
        let mut trainer = Self::new(config, device, Some(decoder))?;
        trainer.restore(saved, &path)?;
        trainer.prune()?;
        Ok(trainer)
    }

    fn restore(&mut self, mut saved: Saved, path: &Path) -> Result<()> {
        checkpoint::compare(&saved, &self.config, &self.fingerprints, path)?;
        let _owner = Owner::enter("optimizer");
        for (param, state) in self.params.iter().zip(&mut self.states) {
            for (name, x) in &mut state.0 {
                *x = saved.state(&format!("{}.{name}", param.name), x)?;
            }
        }
        if let Some(average) = &mut self.average {
            for (param, x) in self.params.iter().zip(average.weights_mut()) {
                *x = saved.state(&param.name, x)?;
            }
        }
        self.teacher_before = saved.teacher;
        self.progress = saved.progress;
        self.codes.set_step(self.progress.step);
        Ok(())
    }

    /// Gives the run the teacher that its configuration speaks of.
    ///
    /// # Errors
    /// Where the configuration speaks of none, the teacher has other tokens or no such layer, or the run that is continued had another one.
    pub fn with_teacher(mut self, decoder: Decoder, tokenizer: &Tokenizer) -> Result<Self> {
        let how = self.config.distillation.as_ref().ok_or_else(|| Error::Config {
            key: "distillation",
            value: "missing".into(),
            rule: "a section that says what is learnt from the teacher".into(),
        })?;
        let teacher =
            Teacher::new(how, (decoder, tokenizer), (&self.decoder.config, &self.tokenizer), &self.probe())?;
        if let Some(before) = self.teacher_before.as_deref().filter(|before| *before != teacher.fingerprint())
        {
            return Err(Error::Checkpoint {
                path: self.config.training.out.clone(),
                what: "the teacher".into(),
                found: format!("one whose logits have the SHA-256 {before}"),
                expected: teacher.fingerprint().into(),
                advice: "change it back, or start a new run in another folder",
            });
        }
        self.teacher = Some(teacher);
        Ok(self)
    }

    /// A window that tells teachers apart.
    fn probe(&self) -> Windows {
        self.train.windows(&[0], self.config.data.context, self.separate())
    }

    /// The configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Steps that were made.
    pub fn step_count(&self) -> u64 {
        self.progress.step
    }

    /// The decoder as it is now.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// What text is cut with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens to learn from, and tokens that are held out.
    pub fn tokens(&self) -> [usize; 2] {
        [self.train.len(), self.valid.len()]
    }

    /// The token that begins a document, where attention stays inside of documents.
    fn separate(&self) -> Option<u32> {
        self.tokenizer.bos().filter(|_| !self.config.data.across_documents)
    }

    /// The windows of a step, a list for each pass.
    fn passes(&self, step: u64) -> Vec<Windows> {
        let t = &self.config.training;
        let each = t.batch as u64;
        let pass = |i: u64| {
            let first = (step * t.accumulation as u64 + i) * each;
            let starts: Vec<usize> = (first..first + each).map(|index| self.order.start(index)).collect();
            self.train.windows(&starts, self.config.data.context, self.separate())
        };
        (0..t.accumulation as u64).map(pass).collect()
    }

    /// Makes a step: losses and gradients of its passes, then an update of the weights. Where loss or gradient is not finite, the weights stay
    /// as they are.
    ///
    /// # Errors
    /// Where that happened too often, or the device fails.
    pub fn step(&mut self) -> Result<Event> {
        let (begin, step) = (Instant::now(), self.progress.step);
        if let (Some(how), None) = (&self.config.distillation, &self.teacher) {
            let (value, rule) = (how.teacher.display().to_string(), "a teacher that was loaded".into());
            return Err(Error::Config { key: "distillation.teacher", value, rule });
        }
        self.decoder.set_lambda(self.config.quantization(step).lambda);
        let passes = self.passes(step);
        let tokens: usize = passes.iter().map(Windows::counted).sum();
        let share = 1.0 / tokens.max(1) as f64;
        let found = self.team.gradients(&self.decoder, self.teacher.as_ref(), &passes, share)?;
        let (loss, distillation) = (found.loss * share, found.distillation * share);
        let gradient_norm = norm(&found.gradients)?;
        self.progress.step += 1;
        if let Some(what) = not_finite(loss, gradient_norm) {
            self.bad_steps += 1;
            if self.bad_steps >= MAX_BAD_STEPS {
                return Err(Error::Diverged { what, count: self.bad_steps, step: step + 1 });
            }
            return Ok(Event::Skipped { step: step + 1, what });
        }
        self.bad_steps = 0;
        let rates = self.config.schedule.at(step, self.config.training.steps);
        self.update(&found.gradients, gradient_norm, rates)?;
        let layers = self.layers()?;
        Ok(Event::Step(Step {
            step: step + 1,
            loss,
            distillation: self.teacher.as_ref().map(|_| distillation),
            lr: rates.lr,
            weight_decay: rates.weight_decay,
            gradient_norm,
            tokens: tokens as u64,
            seconds: begin.elapsed().as_secs_f64(),
            layers,
        }))
    }

    fn update(&mut self, gradients: &[Tensor], norm: f64, rates: crate::schedule::Rates) -> Result<()> {
        let _owner = Owner::enter("optimizer");
        self.progress.updates += 1;
        let clip = self.config.training.clip;
        let scale = if clip > 0.0 { (clip / (norm + CLIP_EPS)).min(1.0) } else { 1.0 };
        let (rule, step) = (&self.config.optimizer, self.progress.updates);
        let mut rest = self.params.iter().zip(&mut self.states).zip(gradients);
        self.decoder.params(&mut |_, w| {
            let ((param, state), gradient) = rest.next().expect("a gradient for every weight");
            if param.lr_scale == 0.0 {
                return Ok(());
            }
            let lr = rates.lr * param.lr_scale;
            let weight_decay = rates.weight_decay * param.weight_decay_scale;
            let update = Update { step, lr, weight_decay, gradient_scale: scale as f32 };
            rule.update(w, gradient, state, update, param.matrix)
        })?;
        self.average.as_mut().map_or(Ok(()), |average| average.follow(&mut self.decoder))
    }

    /// Codes of the layers, in steps that are logged.
    fn layers(&mut self) -> Result<Vec<crate::progress::Codes>> {
        let logged = self.progress.step.is_multiple_of(self.config.training.log_every);
        if logged && self.config.quantization.weights.is_ternary() {
            self.codes.count(&mut self.decoder, self.progress.step)
        } else {
            Ok(Vec::new())
        }
    }

    /// The decoder as it is shipped where it can be: the average where there is one, frozen where its rounding has a packed form.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn shipped(&self) -> Result<Decoder> {
        let averaged = self.average.as_ref().map(|average| average.decoder(&self.decoder)).transpose()?;
        let decoder = averaged.as_ref().unwrap_or(&self.decoder);
        let ships = self.config.quantization(self.progress.step).has_packed_form();
        Ok(if ships { decoder.freeze()? } else { decoder.clone() })
    }

    /// Losses on what is held out, of the weights as they are [shipped](Self::shipped).
    ///
    /// # Errors
    /// Where nothing is held out or the device fails.
    pub fn evaluate(&self) -> Result<Evaluation> {
        if self.valid.is_empty() {
            let reason = "nothing is held out; set data.valid or data.valid_fraction";
            return Err(Error::data(self.train.path(), reason));
        }
        let decoder = self.shipped()?;
        let window = (self.config.data.context, self.separate());
        let limit = self.config.training.eval_windows;
        evaluate(&decoder, &self.valid, &self.tokenizer, window, limit, &self.team)
    }

    /// Writes a checkpoint, and removes those that are too old.
    ///
    /// # Errors
    /// Where it cannot be written; what was there before is intact then.
    pub fn save(&mut self) -> Result<PathBuf> {
        let path = checkpoint::save(
            &self.config,
            &self.tokenizer,
            Weights {
                decoder: &mut self.decoder,
                average: self.average.as_mut().map(Average::weights_mut),
                params: &self.params,
                states: &self.states,
            },
            self.progress,
            (&self.fingerprints, self.teacher.as_ref().map(Teacher::fingerprint)),
        )?;
        self.prune()?;
        Ok(path)
    }

    /// Removes the checkpoints that are too old.
    fn prune(&self) -> Result<()> {
        checkpoint::prune(&self.config.training.out, self.config.training.keep, self.progress.best_step)
    }

    /// Makes the steps that are left, evaluating and saving as the configuration says, and at the end. `watch` is told everything and may stop
    /// the run, after which a checkpoint is written too.
    ///
    /// # Errors
    /// As [`Trainer::step`], [`Trainer::evaluate`] and [`Trainer::save`].
    pub fn run(&mut self, watch: Watch<'_>) -> Result<End> {
        let (total, every) = (self.config.training.steps, self.config.training.checkpoint_every);
        while self.progress.step < total {
            let event = self.step()?;
            let mut stopped = watch(self, &event).is_break();
            let out_of_patience = self.evaluate_if_due(&mut stopped, watch)?;
            let step = self.progress.step;
            let due = every > 0 && step.is_multiple_of(every);
            if due || stopped || out_of_patience || step == total {
                let path = self.save()?;
                stopped |= watch(self, &Event::Saved { step, path }).is_break();
            }
            if out_of_patience {
                return Ok(End::Patience);
            }
            if stopped && step < total {
                return Ok(End::Stopped);
            }
        }
        Ok(End::Done)
    }

    /// Evaluates where a step asks for it; returns whether it is time to stop.
    fn evaluate_if_due(&mut self, stopped: &mut bool, watch: Watch<'_>) -> Result<bool> {
        let t = &self.config.training;
        let step = self.progress.step;
        let due = (t.eval_every > 0 && step.is_multiple_of(t.eval_every)) || step == t.steps;
        if !due || self.valid.is_empty() {
            return Ok(false);
        }
        let patience = t.patience;
        let evaluation = self.evaluate()?;
        let best = self.progress.best.is_none_or(|best| evaluation.nats < best);
        if best {
            (self.progress.best, self.progress.best_step) = (Some(evaluation.nats), Some(step));
            self.progress.since_best = 0;
        } else {
            self.progress.since_best += 1;
        }
        *stopped |= watch(self, &Event::Evaluated { step, evaluation, best }).is_break();
        Ok(patience > 0 && self.progress.since_best >= patience)
    }
}

fn not_finite(loss: f64, norm: f64) -> Option<&'static str> {
    match (loss.is_finite(), norm.is_finite()) {
        (false, _) => Some("loss"),
        (_, false) => Some("gradient"),
        _ => None,
    }
}
