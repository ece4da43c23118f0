"""Single faults, each with the test that must find it.

A fault replaces `search`, which must occur exactly once in `file`, by `replace`. `test` is a pattern of test cases of `program`
(tests/PROGRAM -tc=TEST). `ops` restricts tests of all ops to the cases of these ops (MBLM_OPS). Choose `search` as short as is unique, so
that the fault is found again when the line moves or its surroundings change.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    name: str
    file: str
    search: str
    replace: str
    program: str
    test: str
    ops: str = ""


FORMULA = "ops match their formulas"
DIRECTION = "the derivative along a random direction*"
FLOAT32 = "float32 gradients match float64"

OPS = [
    Mutation("gradient of a clamped row", "cpu/rms_norm.cpp", "const T c = f[row] < 0 ? T(0) : dot", "const T c = dot", "op_test",
             "rms_norm: the gradient of a clamped row*"),
    Mutation("power of the norm", "cpu/rms_norm.cpp", "dot * r * r * r /", "dot * r * r /", "op_test", DIRECTION, "rms_norm"),
    Mutation("a zero loss counts", "cpu/cross_entropy.cpp", "sums.count += elements[row] != 0 ? 1 : 0;", "sums.count += 1;", "op_test",
             "cross_entropy: a row whose loss is exactly zero*"),
    Mutation("loss weights in the gradient", "cpu/cross_entropy.cpp", "static_cast<T>(share * weight)", "static_cast<T>(share)", "op_test", DIRECTION,
             "cross_entropy"),
    Mutation("dropout mask of the first key tile, forward", "cpu/attention_long.cpp", "drop_row(head, r, first_key, tile.keys",
             "drop_row(head, r, 0, tile.keys", "op_test", FORMULA, "attention"),
    Mutation("dropout mask of the first key tile, backward", "cpu/attention_long.cpp", "drop_row(head, query, tile.first_key, tile.keys, ds)",
             "drop_row(head, query, 0, tile.keys, ds)", "op_test", DIRECTION, "attention"),
    Mutation("dropout mask of the first key tile, values", "cpu/attention_long.cpp", "drop_row(head, query, tile.first_key, tile.keys, p)",
             "drop_row(head, query, 0, tile.keys, p)", "op_test", DIRECTION, "attention"),
    Mutation("a query tile left out in float32", "cpu/attention_long.cpp", "for (std::int64_t first = 0; first < head.queries;",
             "for (std::int64_t first = sizeof(T) == 4 && head.queries > 128 ? query_tile : 0; first < head.queries;", "op_test", FLOAT32, "attention"),
    Mutation("rows that see no key have a gradient", "cpu/attention_long.cpp", "const T factor = head.sees_none(query) ? T(0) : head.scale",
             "const T factor = head.scale", "op_test", DIRECTION, "attention"),
    Mutation("earlier sums are not rescaled", "cpu/attention_long.cpp", "if (first_key > 0 && factor != 1)", "if (first_key > 128 && factor != 1)", "op_test",
             FORMULA, "attention"),
    Mutation("state ring one slot short, forward", "cpu/ssd_scan.cpp", "ssd::sweep_chunks + 1), n.heads", "ssd::sweep_chunks), n.heads", "op_test", FORMULA,
             "ssd_scan"),
    Mutation("state ring one slot short, backward", "cpu/ssd_scan_backward.cpp", "ssd::sweep_chunks + 1), n.heads", "ssd::sweep_chunks), n.heads",
             "op_test", DIRECTION, "ssd_scan"),
    Mutation("dropout does not rescale", "cpu/dropout.cpp", "static_cast<Real<T>>(1 / (1 - p))", "static_cast<Real<T>>(1)", "op_test", FORMULA, "dropout"),
    Mutation("token shift backward reads its own token", "cpu/token_shift.cpp", "in + s.width + s.kept : next", "in + s.kept : next", "op_test", DIRECTION,
             "token_shift"),
    Mutation("a tap of the convolution", "cpu/causal_conv1d.cpp", "w2[i] * read(x2[i])", "w2[i] * read(x1[i])", "op_test", FORMULA, "causal_conv1d_silu"),
    Mutation("bias gradient of the last token only", "cpu/causal_conv1d.cpp", "dbias[i] += d[i];", "dbias[i] = d[i];", "op_test", DIRECTION,
             "causal_conv1d_silu"),
    Mutation("softplus backward without the bias", "cpu/softplus.cpp", "read(d[i]) * scalar::sigmoid(read(in[i]) + read(b[i]))",
             "read(d[i]) * scalar::sigmoid(read(in[i]))", "op_test", DIRECTION, "softplus"),
    Mutation("a weight outside the arena adds", "ops/linear.cpp", ".transpose_a = true, .beta = dweight.beta", ".transpose_a = true, .beta = 0", "op_test",
             "linear: a weight in the arena with a bias outside*"),
    Mutation("a bias in the arena overwrites", "ops/bias_gradient.h", "0, sums, slot.beta)", "0, sums, 0)", "op_test",
             "linear: a weight in the arena with a bias outside*"),
    Mutation("an operand repeats along the wrong rows", "cpu/elementwise.h", "(row - row / repeats) * inner", "(row - row % repeats) * inner", "op_test",
             FORMULA, "add"),
    Mutation("sign of the subtrahend's gradient", "ops/subtract.cpp", "db.gradient(dy, -1)", "db.gradient(dy)", "op_test", DIRECTION, "subtract"),
    Mutation("gradients of the factors exchanged", "ops/multiply.cpp", "da.gradient_of_product(dy, kept_b)", "da.gradient_of_product(dy, kept_a)", "op_test",
             DIRECTION, "multiply"),
    Mutation("a repeated divisor in its gradient", "ops/divide.cpp", "operand.sum_of_products(dy, y), b), -1)", "operand.sum_of_products(dy, y), b), 1)",
             "op_test", DIRECTION, "divide"),
    Mutation("quotient in the gradient of a divisor", "cpu/divide.cpp", "-read(d[i]) * read(kept[i]) /", "-read(d[i]) /", "op_test", DIRECTION, "divide"),
    Mutation("repeats that are not neighbours", "ops/broadcast.cpp", "open = false;\n    } else if", "open = true;\n    } else if", "op_test", FORMULA, "add"),
    Mutation("rows of the last part of a sum", "cpu/sum.cpp", "count = std::min(part_rows, rows - first)", "count = std::min(part_rows - 1, rows - first)",
             "op_test", FORMULA, "sum"),
    Mutation("the gradient of a mean is that of a sum", "ops/sum.cpp", "sum_backward(dy.reshape(sums), factor, dx_view)",
             "sum_backward(dy.reshape(sums), 1.0, dx_view)", "op_test", DIRECTION, "mean"),
    Mutation("repeated gradients are rounded before the sum", "ops/broadcast.cpp", "return empty(shape, wide_dtype(like), like.device())",
             "return empty(shape, like.dtype(), like.device())", "op_test", "bfloat16: sums and gradients of repeated operands*"),
    Mutation("softmax without its largest element", "cpu/softmax.cpp", "scalar::exp(x[i] - largest)", "scalar::exp(x[i])", "op_test",
             "infinity and NaN follow the formulas"),
    Mutation("the sum in the gradient of softmax", "cpu/softmax.cpp", "y[i] * (dy[i] - dot)", "y[i] * dy[i]", "op_test", DIRECTION, "softmax"),
    Mutation("a gradient at the kink of relu", "cpu/relu.cpp", "v <= 0 ?", "v < 0 ?", "op_test", "relu passes no gradient at zero"),
    Mutation("the gradient of exp without its value", "ops/exp.cpp", "multiply_forward(dy, y, dx)", "multiply_forward(dy, dy, dx)", "op_test", DIRECTION, "exp"),
    Mutation("skipped steps count for Adam", "cpu/adam.cpp", "s.updates += s.applies;", "s.updates += 1;", "op_test",
             "gradient_norm: a non-finite loss is recorded*"),
]

ENGINE = [
    Mutation("the exception of a tile is lost", "engine/parallel.cpp", "if (!failure_) failure_ = std::current_exception();",
             "if (!failure_) failure_ = nullptr;", "engine_test", "an exception of a tile that a helper runs*"),
    Mutation("tiles beyond the first job run as the first ones", "engine/parallel.cpp", "job_.first + tile", "tile", "engine_test", "more tiles than one job*"),
    Mutation("the widened copy stays behind the optimizer", "engine/parameters.cpp", "if (widened_.defined()) convert(bfloat16_, widened_);", "", "engine_test",
             "the widened copy of training*"),
    Mutation("blocks of neighbouring sizes share a list", "engine/pool.cpp", "steps - eighths - 1};", "(steps - eighths - 1) / 2};", "engine_test",
             "size classes waste at most an eighth*"),
    Mutation("parameters for inference have gradients", "engine/parameters.cpp", "if (gradients == Gradients::No) continue;", "", "engine_test",
             "parameters without gradients*"),
    Mutation("a file is not flushed", "engine/io/atomic_file.cpp", "flush_to_disk(file_.number())", "0 * file_.number()", "engine_test",
             "an atomic file is flushed before*"),
    Mutation("a folder is not flushed", "engine/io/atomic_file.cpp", "flush_to_disk(descriptor.number())", "0 * descriptor.number()", "engine_test",
             "an atomic file is flushed before*"),
    Mutation("a failed rename is ignored", "engine/io/atomic_file.cpp", 'fail("cannot rename the temporary file", errno);', "errno = 0;", "engine_test",
             "a file does not replace a folder*"),
    Mutation("shared gradients are changed in place", "engine/autograd.cpp", "if (!sum.storage_is_unshared()) sum = clone(sum);", "", "engine_test",
             "a gradient shared by two inputs*"),
    Mutation("the checksum ignores three words of four", "engine/io/checksum.cpp", "lane < lanes; ++lane) chains[lane]", "lane < 1; ++lane) chains[lane]",
             "engine_test", "a checksum differs*"),
]

MODEL = [
    Mutation("spread of the last projection", "mblm/mamba2.cpp", ".scaled(1.0f / std::sqrt(static_cast<float>(layers)))", "", "model_test",
             "initial values*"),
    Mutation("bounds of linear weights", "mblm/stage_block.cpp", "1.0f / std::sqrt(static_cast<float>(in))", "1.0f / std::sqrt(static_cast<float>(out))",
             "model_test", "initial values*"),
    Mutation("the row of the padding", "mblm/hierarchy.cpp", "Init::normal().with_zero_row(config_.pad_token_id)", "Init::normal()", "model_test",
             "initial values*"),
    Mutation("bounds of queries and keys", "mblm/transformer.cpp", "const Init projection = Init::uniform(1.0f / std::sqrt(static_cast<float>(width_)))",
             "const Init projection = Init::uniform(1.0f / std::sqrt(static_cast<float>(inner)))", "model_test", "initial values*"),
]

SAMPLING = [
    Mutation("top-p keeps one id beyond an exact sum", "mblm/sample.cpp", "sum < wanted", "sum <= wanted", "generate_test", "top-p keeps the lowest of equal*"),
    Mutation("top-p ranks equal ids by the highest", "mblm/sample.cpp", "a.value < b.value : a.id > b.id", "a.value < b.value : a.id < b.id", "generate_test", "top-p keeps the lowest of equal*"),
    Mutation("the temperature multiplies", "mblm/sample.cpp", "(c.value - largest) / options_.temperature", "(c.value - largest) * options_.temperature", "generate_test",
             "draws follow the softmax*"),
    Mutation("a draw has one bit less", "mblm/sample.cpp", "std::uint64_t{words[0]} << 21", "std::uint64_t{words[0]} << 20", "generate_test", "draws follow the softmax*"),
    Mutation("all positions share a draw", "mblm/sample.cpp", "static_cast<std::uint64_t>(position))", "0 * static_cast<std::uint64_t>(position))", "generate_test",
             "a draw depends only on*"),
    Mutation("the penalty raises negative logits", "mblm/sample.cpp", "options_.repetition_penalty : options_.repetition_penalty;", "options_.repetition_penalty : 1 / options_.repetition_penalty;",
             "generate_test", "the repetition penalty*"),
    Mutation("the penalty forgets the chosen ids", "mblm/sample.cpp", "  see(std::span(&id, 1));\n", "", "generate_test", "the repetition penalty lowers the ids*"),
    Mutation("min-p drops its boundary", "mblm/sample.cpp", ">= options_.min_p)", "> options_.min_p)", "generate_test", "min-p drops*"),
    Mutation("a stop text must be longer than what is held", "mblm/stop_text.cpp", "ids.size() <= text.size()", "ids.size() < text.size()", "generate_test", "stop text: ends before*"),
]

GENERATOR = [
    Mutation("rotation by the angles of the call before", "cpu/rotary.cpp", "if (key != kept.key) {", "if (key.size() != kept.key.size()) {", "generate_test",
             "generator: the logits of each byte*"),
    Mutation("one key less of a last group is scored", "cpu/attention_cached.cpp", "std::min<std::int64_t>(j, keys - 1)", "std::min<std::int64_t>(j, keys - 2)",
             "generate_test", "generator: the logits of each byte*"),
    Mutation("one token of a scan keeps no sum", "cpu/selective_scan.cpp", "      y[0] = sum;\n", "", "generate_test", "generator: the logits of each byte*"),
    Mutation("a token is processed one byte early", "mblm/generator.cpp", "bytes : (bytes - 1) / patch", "bytes : bytes / patch", "generate_test", "generator: the logits of each byte*"),
    Mutation("the open token begins with the prompt", "mblm/generator.cpp", "one.bytes.begin() + static_cast<std::ptrdiff_t>(one.next), one.bytes.end()", "one.bytes.begin(), one.bytes.end()",
             "generate_test", "generator: the bits do not depend on how a prompt*"),
    Mutation("stages below a new patch keep their old one", "mblm/generator.cpp", "for (int n = stage; n <= stages_.last(); ++n) {\n    row.stages", "for (int n = stage; n <= stage; ++n) {\n    row.stages",
             "generate_test", "generator: the logits of each byte*"),
    Mutation("the pieces of a prompt change places", "mblm/inference_stages.cpp", "pieces.push_back(model_", "pieces.insert(pieces.begin(), model_", "generate_test", "generator: a prompt longer*"),
    Mutation("rows get the patch of the first row", "mblm/generator.cpp", "next.slice(at, at + 1)", "next.slice(0 * at, 1)", "generate_test", "generator: rows that join and leave*"),
    Mutation("rows get the logits of the first row", "mblm/generator.cpp", "assign(logits.begin() + b * width, logits.begin() + (b + 1) * width)", "assign(logits.begin(), logits.begin() + width)",
             "generate_test", "generator: rows that join and leave*"),
    Mutation("rows that continue a snapshot share its states", "mblm/generator.cpp", "at(row) = state.copy();", "at(row) = state;", "generate_test", "generator: a snapshot continues*"),
    Mutation("a recomputed block has the length of the first row", "mblm/recomputed_block.cpp", "state->lengths[static_cast<std::size_t>(b)]", "state->lengths[static_cast<std::size_t>(0 * b)]",
             "generate_test", "generator: a block without a state*"),
    Mutation("positions begin anew in each part", "mblm/inference_stages.cpp", "above, state.lengths)", "above, std::vector<std::int64_t>(state.lengths.size(), 0))", "generate_test",
             "generator: the logits of each byte*"),
    Mutation("all patches begin with the input of the first stage", "mblm/inference_stages.h", "static_cast<std::size_t>(stage - 1)].below", "0].below", "generate_test",
             "generator: the logits of each byte*"),
    Mutation("a saved state has no patch", "mblm/sequence_state_file.cpp", 'if (n > 0) visit(stage + ".above"', 'if (n > 1) visit(stage + ".above"', "generate_test", "a saved state continues*"),
    Mutation("a chunk is predicted from the first one's end", "mblm/scorer.cpp", "predictor_ = rows.slice(count, count + 1);", "if (!predictor_.defined()) predictor_ = rows.slice(count, count + 1);",
             "generate_test", "scorer: a sequence of several chunks*"),
    Mutation("the last token of a chunk is lost", "mblm/scorer.cpp", "  last_ids_ = last_ids;\n", "  if (!last_ids_.defined()) last_ids_ = last_ids;\n", "generate_test", "scorer: a sequence of several chunks*"),
    Mutation("windows are not scored from the start token", "mblm/scorer.cpp", "  state_ = stages_.fresh(0, 1);\n", "  if (state_.lengths.empty()) state_ = stages_.fresh(0, 1);\n", "generate_test",
             "scorer: a sequence beyond*"),
]

COMPRESSION = [
    Mutation("a carry is lost", "mblm/range_coder.cpp", "carry_ = carry_ || low_ < before;\n  range_", "range_", "compress_test", "range coder: carries*"),
    Mutation("a carry does not run through", "mblm/range_coder.cpp", "carry_ ? 0x00 : 0xff", "0xff", "compress_test", "range coder: carries*"),
    Mutation("a code ends below its interval", "mblm/range_coder.cpp", "low_ += smallest_range - 1;", "low_ += 0;", "compress_test", "range coder: messages*"),
    Mutation("a byte may have no frequency", "mblm/byte_frequencies.cpp", "= 1 + static_cast<std::uint32_t>", "= static_cast<std::uint32_t>", "compress_test", "byte frequencies: the documented*"),
    Mutation("a stream continues the one before", "mblm/predict_stream.cpp", "  scorer.restart();\n  std::vector", "  std::vector", "compress_test", "compression: bfloat16*"),
    Mutation("a window is decoded one byte late", "mblm/compress.cpp", "generator.length(stream.row) + 1 == window", "generator.length(stream.row) == window", "compress_test",
             "compression: content of every size*"),
    Mutation("decoded content is not checked", "mblm/compress.cpp", "content.short_digest() == header.content_hash", "true", "compress_test", "compression: content that does not decode*"),
    Mutation("log-probabilities are not normalized", "mblm/sample.cpp", "- largest - std::log(sum)", "- largest", "compress_test", "predictions of a stream*"),
]

TRAINER = [
    Mutation("each epoch has the first one's shuffle", "train/training_data.cpp", 'site_of("shuffle"), static_cast<std::uint32_t>(epoch)}',
             'site_of("shuffle"), 0}', "train_test", "each epoch trains on other batches*"),
    Mutation("each validation has the same shuffle", "train/trainer.cpp",
             'site_of("shuffle_eval"), static_cast<std::uint32_t>(state_.cumulative_batch())}', 'site_of("shuffle_eval"), 0}', "train_test",
             "validations have the labels*"),
    Mutation("epoch of a validation", "train/recorder.cpp", ".epoch = state_.done_epoch", ".epoch = state_.epoch", "train_test",
             "validations have the labels*"),
    Mutation("batch of a validation", "train/recorder.cpp", ".batch = state_.done_batch", ".batch = state_.batch", "train_test",
             "validations have the labels*"),
    Mutation("cum_batch of a validation", "train/recorder.cpp", ".cum_batch = state_.cumulative_batch() - 1,", ".cum_batch = state_.cumulative_batch(),",
             "train_test", "validations have the labels*"),
    Mutation("stale mean gradients", "train/trainer.cpp", "*next <= state_.micro_step + config_.train.gradient_accumulate_every",
             "*next <= state_.micro_step + 1", "train_test", "the mean gradient of a row*"),
    Mutation("dropout restarts after a checkpoint", "train/trainer.cpp", "runner_->set_micro_step(state_.cumulative_batch());",
             "runner_->set_micro_step(state_.micro_step);", "train_test", "a run that starts from a checkpoint continues*"),
    Mutation("batches before a checkpoint", "train/training_data.cpp", "batches_in_epoch(epoch) * epoch + batch", "epoch + batch", "train_test",
             "a run that starts from a checkpoint continues*"),
    Mutation("workers share their dropout", "train/training_steps.cpp", "workers_.rank() * config_.train.batch_size", "0 * config_.train.batch_size",
             "workers_test", "dropout differs between workers"),
    Mutation("a word across batches counts twice", "train/evaluate.cpp", "batch.words - (in_word && batch.begins_in_word)", "batch.words + 0 * in_word",
             "workers_test", "words are counted across batches*"),
    Mutation("a word across batches is not followed", "train/evaluate.cpp", "in_word = batch.ends_in_word;", "in_word = batch.begins_in_word;",
             "workers_test", "words are counted across batches*"),
    Mutation("the rate rises after warm-up", "train/schedule.cpp", "(1 + std::cos(", "(1 - std::cos(", "train_test",
             "learning rates equal those of the Python package"),
]

HOOKS = [
    Mutation("a validation ignores the loss of the hooks", "train/evaluate.cpp", "own_loss ? own_loss(model, input, {}).item()", "false ? own_loss(model, input, {}).item()", "train_test",
             "a loss of the program's own trains*"),
    Mutation("tensors of hooks are not saved", "train/step_runner.cpp", "  state.insert(state.end(), own_state_.begin(), own_state_.end());\n", "", "train_test",
             "a run with every hook resumes*"),
    Mutation("an own optimizer gets unclipped gradients", "train/step_runner.cpp", "s.clip_factor == 1 ?", "true ?", "train_test",
             "an optimizer of the program's own gets clipped*"),
    Mutation("the bfloat16 copy is stale after an own optimizer", "train/step_runner.cpp", "    parameters.values_changed();\n", "    parameters.values_and_copy_changed();\n", "train_test",
             "an optimizer of the program's own gets clipped*"),
    Mutation("an own optimizer is called for any step", "train/step_runner.cpp", "if (s.applies != 0) {", "{", "train_test", "an optimizer of the program's own is not called*"),
    Mutation("hooks count steps from 0", "train/training_steps.cpp", ".step = state.steps + 1,", ".step = state.steps,", "train_test", "before_update sees*"),
    Mutation("a hook ends a run within a group", "train/trainer.cpp", "ended_early() && state_.micro_step % config_.train.gradient_accumulate_every == 0", "ended_early()",
             "train_test", "a hook can end the run*"),
    Mutation("the end of a run is not saved", "train/run_state.cpp", '  visit("ended_length", training.ended_length);\n', "", "train_test", "a hook can end the run*"),
    Mutation("the best validation is not saved", "train/run_state.cpp", '  visit("validations", training.validations);\n', "", "train_test", "a run with every hook resumes*"),
    Mutation("every worker asks whether to end", "train/trainer.cpp", "workers_.is_rank0() && options_.hooks.end_run(report)", "options_.hooks.end_run(report)", "train_test",
             "workers call the hooks*"),
    Mutation("a run resumes with other hooks", "train/checkpointer.cpp", "require<ConfigError>(state.hooks == hooks,", "require<ConfigError>(true,", "train_test",
             "a run with hooks is not resumed*"),
]

DATA = [
    Mutation("epochs start at the same byte", "train/data/text_datasets.cpp", "start_ + epoch % length_ + index * length_", "start_ + 0 * epoch + index * length_",
             "data_test", "each epoch starts a byte later*"),
    Mutation("a stream reads on in the file that is open", "train/data/byte_stream.cpp", "return opened.file == file; });", "return opened.file == file || opened.file + 1 == file; });",
             "data_test", "threads read a stream at the same time"),
]

CHECKPOINTS = [
    Mutation("the worst checkpoint is the best", "train/best_checkpoints.cpp", "return a.loss < b.loss;", "return a.loss > b.loss;", "train_test",
             "a run learns and writes its files"),
    Mutation("gradients of an open group are lost on resume", "train/step_runner.cpp", "gradients_used_ = !within_group;", "gradients_used_ = true;",
             "workers_test", "a run that skipped a step*"),
    Mutation("the bfloat16 copy is stale after resume", "train/step_runner.cpp", "from_host(file.tensor(name).host_bytes().data());\n  gradients_used_ = !within_group;\n  model_.parameters().values_changed();",
             "from_host(file.tensor(name).host_bytes().data());\n  gradients_used_ = !within_group;\n  model_.parameters().values_and_copy_changed();",
             "workers_test", "a run that skipped a step*"),
    Mutation("the seed may change on resume", "train/immutable_fields.cpp", '"on_nonfinite", "cuda_graphs"};', '"on_nonfinite", "cuda_graphs", "seed"};',
             "train_test", "a field of train is immutable*"),
    Mutation("validations may change on resume", "train/immutable_fields.cpp", '"num_models_to_save", "validate_amount"};', '"num_models_to_save"};',
             "train_test", "every field of the table*"),
]

SERVER = [
    Mutation("a long prompt is read at once", "serve/scheduler.cpp", "shared_piece = 512,", "shared_piece = 1 << 30,", "serve_test", "a long prompt does not stall*"),
    Mutation("prompts are read in the order of arrival", "serve/scheduler.cpp", "        reading_.push_back(std::move(reading));", "        reading_.push_front(std::move(reading));",
             "serve_test", "a long prompt does not stall*"),
    Mutation("continuations share random numbers", "serve/scheduler.cpp", "static_cast<std::int64_t>(number)), StopText", "0 * static_cast<std::int64_t>(number)), StopText",
             "serve_test", "a continuation has the same bytes*"),
    Mutation("the repetition penalty forgets the prompt", "serve/scheduler.cpp", "begun.back()->sampler.see(task.prompt);", "", "serve_test", "a continuation has the same bytes*"),
    Mutation("the row of a client that left is kept", "serve/scheduler.cpp", "return outbox->abandoned() || now >= deadline;", "return now >= deadline;", "serve_test",
             "rows and places*"),
    Mutation("a completion has no deadline", "serve/scheduler.cpp", "return outbox->abandoned() || now >= deadline;", "return outbox->abandoned();", "serve_test",
             "work ends at its deadline*"),
    Mutation("the queue has no limit", "serve/scheduler.cpp", "queued_ + choices <= room", "queued_ + choices <= room + 9", "serve_test", "work beyond the limits*"),
    Mutation("an answer is collected twice", "serve/submission.cpp", "std::exchange(news_[choice], {})", "news_[choice]", "serve_test", "a client that collects nothing*"),
    Mutation("a text ends within a character", "serve/completion_response.cpp", "bytes_.size() - decoder_.pending()", "bytes_.size()", "serve_test", "parts of a text*"),
    Mutation("a key may be longer", "serve/http_server.cpp", "given.size() == expected.size() ? 0 : 1", "given.size() >= expected.size() ? 0 : 1", "serve_test", "a key"),
    Mutation("other sites may ask", "serve/http_server.cpp", '!origin.ends_with("://" + host)', '!origin.ends_with(host) && false', "serve_test", "requests that are refused"),
    Mutation("a body has no limit", "serve/http_server.cpp", "fits = count <= options_.limits.body - body.size();", "fits = true;", "serve_test", "requests that are refused"),
    Mutation("a slow sender has all the time", "serve/connection.cpp", "read_end_ = Clock::now() + patience_;", "read_end_ = Clock::now() + 100 * patience_;", "serve_test",
             "a client that sends slowly*"),
    Mutation("a client that does not read is kept", "serve/connection.cpp", "std::min(Clock::now() + patience_, answer_end_)", "answer_end_", "serve_test",
             "clients that leave or stop reading*"),
    Mutation("a client that left is not noticed", "serve/connection.cpp", "one.revents & (POLLRDHUP | POLLHUP | POLLERR)", "one.revents & 0", "serve_test",
             "clients that leave or stop reading*"),
    Mutation("the last news of a submission is lost", "serve/submission.cpp", "return unfinished_ == 0 && !fresh_;", "return unfinished_ == 0;", "serve_test", "a client that collects nothing*"),
    Mutation("work that is dropped stays counted", "serve/scheduler.cpp", "      queued_ -= ticket->task.continuations;\n      queued_bytes_ -= ticket->task.prompt.size();\n      waiting",
             "      waiting", "serve_test", "work beyond the limits*"),
    Mutation("equal log-probabilities are ranked by the highest id", "serve/scheduler.cpp", "left > right : a < b", "left > right : a > b", "serve_test", "of ids that are equally likely*"),
    Mutation("ends are counted after clients received them", "serve/scheduler.cpp", "  count(writing_);\n", "  std::this_thread::yield();\n", "serve_test", "what a client has received*"),
    Mutation("a scored prompt is not counted", "serve/scheduler.cpp", "counts_.prompt_bytes += scored_rows;", "", "serve_test", "log-probabilities of a prompt*"),
    Mutation("a prompt beyond the context fails late", "serve/completion_request.cpp", "std::min({usual_tokens, limits.tokens, context - length})", "std::min({usual_tokens, limits.tokens})", "serve_test",
             "a prompt beyond a fixed context*"),
    Mutation("base64 with bits of no byte", "serve/base64.cpp", "if ((word & ((1U << (8 * padding)) - 1)) != 0) return {};", "", "serve_test", "base64 of bytes*"),
    Mutation("a server that shuts down takes requests", "serve/http_server.cpp", "    scheduler_.close();", "", "serve_test", "closing finishes*"),
]

# Programs of tests/cuda, on the emulated device.
OPS_ON_GPU = "ops on a CUDA device match*"
CUDA = [
    Mutation("the sum in the gradient of softmax, on the GPU", "cuda/softmax.cu", "kept[p][j] * (d[p][j] - dot[0])", "kept[p][j] * d[p][j]", "cuda/op_test_emulated", OPS_ON_GPU, "softmax"),
    Mutation("gradient of a clamped row, on the GPU", "cuda/rms_norm.cu", "stored < 0 ? 0.0f : dot[0] * r", "dot[0] * r", "cuda/kernel_test_emulated", "rms_norm: the gradient of a clamped row*"),
    Mutation("a zero loss counts, on the GPU", "cuda/cross_entropy.cu", "sums.count += element != 0 ? 1 : 0;", "sums.count += 1;", "cuda/kernel_test_emulated",
             "cross_entropy: a row whose loss is exactly zero*"),
    Mutation("heads share the D of the first", "cuda/ssd_scan.cu", "const float d = in.d[head];", "const float d = in.d[first_head];", "cuda/op_test_emulated", OPS_ON_GPU, "ssd_scan"),
    Mutation("dropout pairs of the lower rows", "cuda/attention_long.cu", "first_query + lane / 4 + 8 * half, first_key", "first_query + lane / 4, first_key", "cuda/op_test_emulated", OPS_ON_GPU,
             "attention"),
    Mutation("splits of the cache are not rescaled", "cuda/attention_cached.cu", "total = fmaf(totals[i], scalar::exp(largest[i] - top), total)", "total += totals[i]", "cuda/kernel_test_emulated",
             "inference: a single token over several segments*"),
    Mutation("the last tile of an id is left out", "cuda/embedding.cu", "t <= (end - 1) / tile", "t <= (end - 1) / tile - (end - begin > tile ? 1 : 0)", "cuda/op_test_emulated", OPS_ON_GPU, "embedding"),
    Mutation("a slice has a mask of its own", "cuda/dropout.cu", "else if (first_element % 4 == 0)", "else if (first_element % 2 == 0)", "cuda/kernel_test_emulated", "dropout: a slice*"),
    Mutation("skipped steps count for Adam, on the GPU", "cuda/adam.cu", "s.updates += s.applies;", "s.updates += 1;", "cuda/kernel_test_emulated", "gradient_norm: a non-finite loss*"),
    Mutation("weight decay of the first group", "cuda/adam.cu", "decays[begin / decay_group] != 0", "decays[0] != 0", "cuda/kernel_test_emulated", "adam_step: weight decay*"),
    Mutation("rows between tiles count twice in the bias", "cuda/causal_conv1d.cu", "if (t + j < end) {\n#pragma", "if (t + j < stop) {\n#pragma", "cuda/op_test_emulated", OPS_ON_GPU, "causal_conv1d_silu"),
    Mutation("a token shift crosses sequences", "cuda/token_shift.cu", "starts ? before :", "row == 0 ? before :", "cuda/op_test_emulated", OPS_ON_GPU, "token_shift"),
    Mutation("the second group of states replaces the first", "cuda/selective_scan.cu", "tiles.x[row][channel]) : tiles.y[row][channel]);", "tiles.x[row][channel]) : 0.0f);", "cuda/op_test_emulated",
             OPS_ON_GPU, "selective_scan"),
    Mutation("the last output of a tile lacks its bias", "cuda/linear_inference.cu", "sum : sum + in.bias[output + c]", "sum : sum + in.bias[output]", "cuda/kernel_test_emulated",
             "inference: a row of linear*"),
]

MUTATIONS = OPS + ENGINE + MODEL + SAMPLING + GENERATOR + COMPRESSION + TRAINER + HOOKS + DATA + CHECKPOINTS + SERVER + CUDA
