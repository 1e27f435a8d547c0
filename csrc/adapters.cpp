#include "adapters.h"

#include <algorithm>
#include <stdexcept>

namespace madang {

namespace {

constexpr int kMaxRank = 4096;

// All in float32, so that one form of activations serves every adapter.
PackedMatrix pack_floats(const std::string& name, const Adapters::Factor& factor, int rows, int columns, ThreadPool& pool) {
    const TypeTraits* traits = find_traits(factor.type);
    if (traits && is_quantized(traits->type))
        throw std::invalid_argument("the adapter of '" + name + "' is not of a float type");
    PackedMatrix packed = pack_matrix(name, factor.type, rows, columns, factor.bytes, pool);
    if (packed.type() == Type::F32) return packed;
    std::vector<float> floats(size_t(rows) * columns);
    for (int i = 0; i < rows; ++i) unpack_row(packed, i, floats.data() + size_t(i) * columns);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(floats.data()), floats.size() * sizeof(float));
    return pack_matrix(name, uint32_t(Type::F32), rows, columns, bytes, pool);
}

std::string unknown(int id) { return "there is no adapter " + std::to_string(id); }

}  // namespace

int Adapters::add() {
    adapters_[next_id_];
    return next_id_++;
}

void Adapters::set(int id, const std::string& name, int rank, const Factor& a, const Factor& b, ThreadPool& pool) {
    const auto adapter = adapters_.find(id);
    if (adapter == adapters_.end()) throw std::invalid_argument(unknown(id));
    const PackedMatrix* matrix = weights_.find_linear(name);
    if (!matrix || matrix->empty())
        throw std::invalid_argument("this model has no matrix '" + name + "' that an adapter could change");
    if (rank < 1 || rank > kMaxRank)
        throw std::invalid_argument("the adapter of '" + name + "' has rank " + std::to_string(rank));
    LowRank low{pack_floats(name, a, rank, matrix->columns, pool), pack_floats(name, b, matrix->rows, rank, pool)};
    adapter->second.insert_or_assign(matrix, std::move(low));
    max_rank_ = std::max(max_rank_, rank);
}

void Adapters::remove(int id) {
    if (adapters_.erase(id) == 0) throw std::invalid_argument(unknown(id));
}

void Adapters::check(const Batch& batch) const {
    for (const int32_t id : batch.adapters)
        if (id != -1 && !adapters_.contains(id)) throw std::invalid_argument(unknown(id));
}

std::vector<AdapterRun> Adapters::runs(const Batch& batch, std::span<const int32_t> tokens) const {
    std::vector<AdapterRun> runs;
    if (batch.adapters.empty()) return runs;
    for (int row = 0; row < int(tokens.size()); ++row) {
        const int sequence = batch.sequences[tokens[row]], id = batch.adapters[sequence];
        const float scale = batch.adapter_scales[sequence];
        if (id < 0) continue;
        AdapterRun* last = runs.empty() ? nullptr : &runs.back();
        if (last && last->adapter == id && last->scale == scale && last->rows.end == row) ++last->rows.end;
        else runs.push_back({id, scale, {row, row + 1}});
    }
    return runs;
}

const LowRank* Adapters::find(int id, const PackedMatrix* matrix) const {
    const auto& adapter = adapters_.at(id);
    const auto found = adapter.find(matrix);
    return found == adapter.end() ? nullptr : &found->second;
}

}  // namespace madang
