// The dtypes of a bfloat16 model: walks the tape of a training step and compares the inputs and outputs of every op with a table.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "engine/autograd.h"
#include "tests/small_model.h"

namespace mblm::testing {
namespace {

constexpr DType f32 = DType::Float32, bf16 = DType::BFloat16;

// One recorded op: its name, and the dtypes of its differentiated inputs and of its used outputs, by their index.
struct TapeOp {
  std::string name;
  std::map<int, DType> inputs, outputs;
};

// All ops that `loss` depends on. An edge holds the dtype of the tensor between two ops.
std::vector<TapeOp> tape_of(const Tensor& loss) {
  std::map<const Node*, TapeOp> ops;
  std::vector<const Node*> waiting{loss.node().get()};
  ops[loss.node().get()].outputs[loss.output_index()] = loss.dtype();
  while (!waiting.empty()) {
    const Node* node = waiting.back();
    waiting.pop_back();
    ops[node].name = node->name;
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      const Edge& edge = node->inputs[i];
      if (edge.node == nullptr) continue;
      ops[node].inputs[static_cast<int>(i)] = edge.dtype;
      if (edge.node->is_leaf) continue;
      if (!ops.contains(edge.node.get())) waiting.push_back(edge.node.get());
      const auto [output, is_new] = ops[edge.node.get()].outputs.emplace(edge.output, edge.dtype);
      CHECK(output->second == edge.dtype);
    }
  }
  std::vector<TapeOp> all;
  for (const auto& [node, op] : ops) all.push_back(op);
  return all;
}

// The rows of an op in the table: each has the dtypes of all inputs and of all outputs.
using Dtypes = std::vector<DType>;
struct Row {
  Dtypes inputs, outputs;
};
const std::multimap<std::string, Row> table = {
    {"embedding", {{f32}, {bf16}}},
    {"layer_norm", {{bf16, f32, f32}, {bf16}}},
    {"rotary", {{bf16}, {bf16}}},
    {"stage_input", {{f32, bf16, f32, bf16}, {f32}}},
    {"stage_input", {{f32, bf16, f32, f32}, {f32}}},
    {"token_shift", {{f32}, {f32}}},
    {"rms_norm", {{f32, f32}, {bf16}}},
    {"rms_norm", {{bf16, f32}, {bf16}}},
    {"linear", {{bf16, bf16, f32}, {bf16}}},
    {"attention", {{bf16}, {bf16}}},
    {"gelu", {{bf16}, {bf16}}},
    {"dropout", {{bf16}, {bf16}}},
    {"split_columns", {{bf16}, {bf16, bf16, bf16}}},
    {"causal_conv1d_silu", {{bf16, f32, f32}, {bf16}}},
    {"softplus", {{bf16, f32}, {f32}}},
    {"selective_scan", {{bf16, f32, f32, bf16, bf16, f32}, {bf16}}},
    {"ssd_scan", {{bf16, f32, f32, bf16, bf16, f32}, {bf16}}},
    {"silu_gate", {{bf16, bf16}, {bf16}}},
    {"add", {{bf16, f32}, {f32}}},
    {"slice_sequence", {{bf16}, {bf16}}},
    {"flatten_patches", {{bf16}, {bf16}}},
    {"concat_rows", {{bf16, bf16}, {bf16}}},
    {"reshape", {{bf16}, {bf16}}},
    {"reshape", {{f32}, {f32}}},
    {"split_rows", {{f32}, {f32, f32}}},
    {"cross_entropy", {{f32}, {f32}}},
    // to_logits, and products and copies of the output of Mamba-1, which is the residual stream.
    {"linear", {{bf16, bf16, f32}, {f32}}},
    {"linear", {{f32, bf16, f32}, {bf16}}},
    {"linear", {{f32, bf16, f32}, {f32}}},
    {"flatten_patches", {{f32}, {f32}}},
    {"slice_sequence", {{f32}, {f32}}},
};

bool agrees(const std::map<int, DType>& found, const Dtypes& row) {
  return std::all_of(found.begin(), found.end(), [&](const auto& entry) {
    return entry.first < std::ssize(row) && row[static_cast<std::size_t>(entry.first)] == entry.second;
  });
}

bool is_in_table(const TapeOp& op) {
  const auto [begin, end] = table.equal_range(op.name);
  return std::any_of(begin, end, [&](const auto& entry) { return agrees(op.inputs, entry.second.inputs) && agrees(op.outputs, entry.second.outputs); });
}

std::string text_of(const TapeOp& op) {
  std::string text = op.name + ":";
  for (const auto& [index, dtype] : op.inputs) text += concat_text(" ", index, " ", dtype);
  text += " ->";
  for (const auto& [index, dtype] : op.outputs) text += concat_text(" ", index, " ", dtype);
  return text;
}

// How many ops of a name have this row.
std::int64_t count_of(const std::vector<TapeOp>& tape, const std::string& name, const Row& row) {
  return std::count_if(tape.begin(), tape.end(), [&](const TapeOp& op) { return op.name == name && agrees(op.inputs, row.inputs) && agrees(op.outputs, row.outputs); });
}

const std::string transformer = "{block_type: transformer, attn_head_dims: 4, attn_num_heads: 2, attn_use_rot_embs: true, attn_dropout: 0.1, ff_dropout: 0.1}";
const std::string mamba2 = "{block_type: mamba2, d_state: 5, d_conv: 4, expand: 2, headdim: 2, dropout: 0.1, pos_emb_type: rope}";
const std::string mamba1 = "{block_type: mamba1, d_state: 4, d_conv: 3, expand: 2, headdim: 2, pos_emb_type: fixed}";

std::unique_ptr<Model> bfloat16_model(const std::string& global, const std::string& local, const std::string& chunks = "null") {
  return make_model(config_of("[5, 4]", "[8, 8]", "[2, 2]", "[" + global + ", " + local + "]", chunks), bf16);
}

std::vector<TapeOp> step_tape(const Model& model) {
  const Tensor loss = model.loss(random_ids(2, 18), {}, {.training = true}).loss;
  const std::vector<TapeOp> tape = tape_of(loss);
  backward(loss);  // checks that each gradient has the dtype of its tensor
  return tape;
}

void check_tape(const std::string& global, const std::string& local) {
  const auto model = bfloat16_model(global, local);
  const std::vector<TapeOp> tape = step_tape(*model);
  CHECK(tape.size() > 20);
  for (const TapeOp& op : tape) {
    CAPTURE(text_of(op));
    CHECK(is_in_table(op));
  }
  // Only the last product and those of a stage that returns the residual stream deviate from bfloat16.
  const bool wide_global = global == mamba1, wide_local = local == mamba1;
  CHECK(count_of(tape, "linear", {{bf16, bf16, f32}, {f32}}) == (wide_local ? 0 : 1));
  CHECK(count_of(tape, "linear", {{f32, bf16, f32}, {f32}}) == (wide_local ? 1 : 0));
  CHECK(count_of(tape, "linear", {{f32, bf16, f32}, {bf16}}) == (wide_global ? 1 : 0));
}

}  // namespace

TEST_CASE("bfloat16: every tensor of a training step has the dtype of the table") {
  for (const std::string& global : {transformer, mamba2, mamba1}) {
    for (const std::string& local : {transformer, mamba2, mamba1}) {
      CAPTURE(global);
      CAPTURE(local);
      check_tape(global, local);
    }
  }
}

TEST_CASE("bfloat16: logits, hidden states, embeddings, loss and gradients of parameters are float32") {
  const auto model = bfloat16_model(transformer, mamba2);
  const Tensor ids = random_ids(2, 20);
  CHECK(model->logits(ids).dtype() == f32);
  CHECK(model->hidden_states(ids).dtype() == f32);
  for (const Tensor& embedding : model->embeddings(ids)) CHECK(embedding.dtype() == f32);
  const Model::Loss loss = model->loss(ids);
  for (const Tensor& x : {loss.loss, loss.elements, loss.logits}) CHECK(x.dtype() == f32);
  CHECK(model->parameters().gradients().dtype() == f32);
  CHECK(model->parameters().activation_dtype() == bf16);
  CHECK(to_host(model->hidden_states(model->embeddings(ids))).v == to_host(model->hidden_states(ids)).v);
}

TEST_CASE("bfloat16: keys, values and windows of a state are bfloat16; shifted halves and scan states are float32") {
  const auto dtypes = [](const std::string& block) {
    std::vector<DType> all;
    const auto model = bfloat16_model(block, block);
    const std::unique_ptr<State> state = model->hierarchy().block(0).start(2);
    for (const Tensor& x : state->tensors) all.push_back(x.dtype());
    for (const std::vector<Tensor>& list : state->lists) all.push_back(list.front().dtype());
    return all;
  };
  CHECK(dtypes(transformer) == Dtypes{f32, f32, f32, f32, bf16, bf16, bf16, bf16});
  CHECK(dtypes(mamba2) == Dtypes{bf16, f32, bf16, f32});
  CHECK(dtypes(mamba1) == Dtypes{bf16, f32, bf16, f32});
}

TEST_CASE("bfloat16: a block gives the same rows in one pass and token by token with a state") {
  const NoGradScope no_grad;
  for (const std::string& name : {transformer, mamba2, mamba1}) {
    CAPTURE(name);
    const auto model = bfloat16_model(name, name);
    const StageBlock& block = model->hierarchy().block(0);
    HostArray values(Shape{2, 5, 8});
    std::mt19937_64 random(3);
    for (double& v : values.v) v = std::normal_distribution<float>()(random);
    const Tensor x = from_host(values, f32);
    const HostArray whole = to_host(block.forward(x, nullptr, {}));
    const std::unique_ptr<State> state = block.start(2);
    for (std::int64_t t = 0; t < 5; ++t) {
      HostArray token(Shape{2, 1, 8}), expected(Shape{2, 1, 8});
      for (std::size_t b = 0; b < 2; ++b) {
        std::copy_n(values.v.begin() + static_cast<long>(b * 40 + static_cast<std::size_t>(t) * 8), 8, token.v.begin() + static_cast<long>(b * 8));
        std::copy_n(whole.v.begin() + static_cast<long>(b * 40 + static_cast<std::size_t>(t) * 8), 8, expected.v.begin() + static_cast<long>(b * 8));
      }
      CHECK(relative_error(to_host(block.forward(from_host(token, f32), state.get(), {})), expected) <= 1e-2);
    }
  }
}

TEST_CASE("bfloat16: chunks that are recomputed give the loss and the gradients of the whole stage") {
  const auto whole = bfloat16_model(transformer, mamba2), chunked = bfloat16_model(transformer, mamba2, "[3]");
  std::vector<double> losses;
  for (const auto* model : {&whole, &chunked}) {
    const Tensor loss = (*model)->loss(random_ids(2, 18), {}, {.training = true}).loss;
    losses.push_back(loss.item());
    backward(loss);
  }
  CHECK(losses[0] == losses[1]);
  CHECK(relative_error(to_host(chunked->parameters().gradients()), to_host(whole->parameters().gradients())) <= 1e-5);
}

}  // namespace mblm::testing
