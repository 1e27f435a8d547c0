#include "decoder.h"

#include <functional>
#include <stdexcept>

namespace madang {

namespace {

constexpr int kSerialTokens = 2;  // up to here, sharing row work costs more than doing it

DecoderShape checked(DecoderShape shape) {
    shape.check();
    return shape;
}

}  // namespace

Decoder::Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier)
    : shape_(checked(std::move(shape))), kernels_(select_kernels(isa)), pool_(n_threads), weights_(shape_), cache_(shape_),
      attention_(shape_, kernels_, cache_, pool_.size()) {
    const DecoderShape& s = shape_;
    hidden_.set_width(s.n_embd);
    // Queries, keys, values and the last rows always keep 15 bits: little work, and much depends on it.
    attention_in_.set_width(s.n_embd);
    last_.set_width(s.n_embd);
    attention_.query.set_width(s.n_heads * s.head_dim);
    attention_.key.set_width(s.n_kv_heads * s.head_dim);
    attention_.value.set_width(s.n_kv_heads * s.head_dim);
    attention_.attended.set_width(s.n_heads * s.head_dim, outlier);
    ffn_in_.set_width(s.n_embd, outlier);
    gate_.set_width(s.n_ff, outlier);
    up_.set_width(s.n_ff);
    logits_.set_width(s.vocab_size);
}

void Decoder::set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes) {
    weights_.set(name, type, rows, columns, bytes, pool_);
}

void Decoder::complete() {
    weights_.complete();
    last_.add_reader(weights_.output_matrix(), kernels_);
    for (const Layer& layer : weights_.layers) {
        for (const PackedMatrix* matrix : {&layer.query, &layer.key, &layer.value}) attention_in_.add_reader(*matrix, kernels_);
        for (const PackedMatrix* matrix : {&layer.ffn_gate, &layer.ffn_up}) ffn_in_.add_reader(*matrix, kernels_);
        attention_.attended.add_reader(layer.attention_output, kernels_);
        gate_.add_reader(layer.ffn_down, kernels_);
    }
    is_complete_ = true;
}

void Decoder::check(const Batch& batch) const {
    const size_t n = batch.tokens.size();
    const auto require = [](bool good, const char* what) {
        if (!good) throw std::invalid_argument(what);
    };
    require(is_complete_, "the decoder has not been completed");
    require(n > 0 && batch.positions.size() == n && batch.sequences.size() == n, "a batch needs tokens, positions and sequences of one length");
    require(batch.page_table_stride > 0, "a batch needs page tables");
    for (size_t i = 0; i < n; ++i) {
        require(batch.tokens[i] >= 0 && batch.tokens[i] < shape_.vocab_size, "a token id is outside of the vocabulary");
        require(batch.sequences[i] >= 0 && size_t(batch.sequences[i]) < batch.n_sequences(), "a sequence has no page table");
        require(batch.positions[i] >= 0 && batch.positions[i] / kPageTokens < batch.page_table_stride, "a position is beyond its page table");
        const int32_t* table = batch.page_table(int(i));
        for (int p = 0; p <= batch.positions[i] / kPageTokens; ++p)
            require(table[p] >= 0 && table[p] < cache_.n_pages(), "a page does not exist");
        require(i == 0 || batch.sequences[i] != batch.sequences[i - 1] || batch.positions[i] == batch.positions[i - 1] + 1,
                "the tokens of a sequence must be consecutive");
    }
    for (const int32_t output : batch.outputs) require(output >= 0 && size_t(output) < n, "an output is not in the batch");
}

void Decoder::prepare(const Batch& batch) {
    const int n = batch.size(), n_outputs = int(batch.outputs.size());
    if (n > hidden_.size()) {
        for (Rows* rows : {&attention_in_, &ffn_in_, &gate_, &up_}) rows->resize(n);
        attention_.resize(n);
        hidden_.resize(n);  // last: its size says that all are there
    }
    if (n_outputs > logits_.size()) {
        last_.resize(n_outputs);
        logits_.resize(n_outputs);
    }
    attention_.prepare(batch);
}

void Decoder::step(const Batch& batch) {
    check(batch);
    n_outputs_ = 0;
    prepare(batch);
    const std::function<void(int)> job = [&](int thread) { forward(batch, thread); };
    pool_.run(job);
    n_outputs_ = int(batch.outputs.size());
}

std::span<const float> Decoder::logits(int row) const {
    if (row < 0 || row >= n_outputs_) throw std::invalid_argument("the last step left no such row of logits");
    return {logits_.row(row), size_t(shape_.vocab_size)};
}

// Ends a shared stage and does row work for n tokens before the next: by the last thread when it is little, else by all.
template <class Work>
void Decoder::between(int n, Work work) {
    if (n <= kSerialTokens) {
        pool_.barrier([&] { work(Range{0, n}); });
    } else {
        pool_.barrier();
        pool_.share(n, 2, work);
        pool_.barrier();
    }
}

void Decoder::normalize(const Rows& from, const std::vector<float>& weight, const Rows& to, int source, int target) const {
    kernels_.rms_norm(from.row(source), weight.data(), to.row(target), shape_.n_embd, shape_.norm_epsilon);
    to.encode(kernels_, target);
}

// Row groups that a thread takes at a time. With few tokens each piece starts with a wait for memory, so they are large.
int Decoder::piece_groups(int groups, int n_tokens) const {
    const int pieces = pool_.size() * (n_tokens <= kMaxQueryTile ? 2 : 8);
    return (groups + pieces - 1) / pieces;
}

void Decoder::multiply(std::initializer_list<Product> products, const Rows& in, int n) {
    int groups = 0;
    for (const Product& product : products) groups += product.matrix->groups();
    const Activations activations = in.activations();
    pool_.share(groups, piece_groups(groups, n), [&](Range range) {
        int offset = 0;
        for (const Product& product : products) {
            const Range own{std::max(0, range.begin - offset), std::min(product.matrix->groups(), range.end - offset)};
            if (own.begin < own.end) kernels_.multiply(*product.matrix, own, activations, {0, n}, product.out);
            offset += product.matrix->groups();
        }
    });
}

// gate = silu(gate) * up
void Decoder::gate_and_up(const Layer& layer, int n) {
    const Activations activations = ffn_in_.activations();
    const int groups = layer.ffn_gate.groups();
    pool_.share(groups, piece_groups(groups, n), [&](Range range) {
        kernels_.multiply(layer.ffn_gate, range, activations, {0, n}, gate_.output());
        kernels_.multiply(layer.ffn_up, range, activations, {0, n}, up_.output());
        const Range columns{range.begin * kLanes, range.end * kLanes};
        for (int t = 0; t < n; ++t)
            kernels_.silu_multiply(gate_.row(t) + columns.begin, up_.row(t) + columns.begin, columns.end - columns.begin);
    });
}

void Decoder::run_layer(const Batch& batch, int index, int thread) {
    const Layer& layer = weights_.layers[index];
    const int n = batch.size();
    multiply({{&layer.query, attention_.query.output()}, {&layer.key, attention_.key.output()}, {&layer.value, attention_.value.output()}}, attention_in_, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) attention_.store(index, t, thread);
    });
    pool_.share(attention_.units(), 1, [&](Range units) {
        for (int u = units.begin; u < units.end; ++u) attention_.attend(index, u, thread);
    });
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) attention_.attended.encode(kernels_, t);
    });
    multiply({{&layer.attention_output, hidden_.output(true)}}, attention_.attended, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) normalize(hidden_, layer.ffn_norm, ffn_in_, t, t);
    });
    gate_and_up(layer, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) gate_.encode(kernels_, t);
    });
    multiply({{&layer.ffn_down, hidden_.output(true)}}, gate_, n);
}

void Decoder::forward(const Batch& batch, int thread) {
    const int n = batch.size(), n_outputs = int(batch.outputs.size());
    pool_.share(n, 1, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) unpack_row(weights_.token_embedding, batch.tokens[t], hidden_.row(t));
    });
    for (int i = 0; i < shape_.n_layers; ++i) {
        between(n, [&](Range tokens) {
            for (int t = tokens.begin; t < tokens.end; ++t) normalize(hidden_, weights_.layers[i].attention_norm, attention_in_, t, t);
        });
        run_layer(batch, i, thread);
    }
    if (n_outputs == 0) return pool_.barrier();
    between(n_outputs, [&](Range outputs) {
        for (int i = outputs.begin; i < outputs.end; ++i) normalize(hidden_, weights_.output_norm, last_, batch.outputs[i], i);
    });
    multiply({{&weights_.output_matrix(), logits_.output()}}, last_, n_outputs);
}

}  // namespace madang
