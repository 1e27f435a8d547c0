#include "cache.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "half.h"

namespace madang {

namespace {
constexpr size_t kSlabBytes = size_t(8) << 20;  // growth: a few huge pages at a time

// Of one head: the elements of a page, n at each position, and the scales of each position.
size_t int8_bytes(int n, int n_scales) { return kPageTokens * (n + n_scales * sizeof(float)); }
size_t half_bytes(int n) { return kPageTokens * n * sizeof(uint16_t); }

// Where element d of an int8 key lies: four of a position are together.
int key_byte(int d, int slot) { return (d / 4 * kPageTokens + slot) * 4 + d % 4; }
}  // namespace

Cache::Cache(const DecoderShape& shape, KvType type)
    : type_(type), n_kv_heads_(shape.n_kv_heads), head_dim_(shape.head_dim),
      value_stride_(int(round_up(shape.head_dim, kLanes))), n_groups_(shape.n_page_groups()), groups_(shape.page_groups),
      key_bytes_(type == KvType::f16 ? half_bytes(head_dim_) : int8_bytes(padded_head(), key_groups(head_dim_))),
      head_bytes_(key_bytes_ + (type == KvType::f16 ? half_bytes(value_stride_) : int8_bytes(value_stride_, 1))) {
    std::vector<int> sizes(size_t(n_groups_), 0);
    if (groups_.empty()) groups_.assign(size_t(shape.n_layers), 0);
    for (const int group : groups_) index_in_group_.push_back(sizes[size_t(group)]++);
    page_bytes_ = head_bytes_ * n_kv_heads_ * *std::max_element(sizes.begin(), sizes.end());
}

void Cache::reserve(int n) {
    const int per_slab = std::max<int>(1, int(kSlabBytes / page_bytes()));
    while (n_pages() < n) {
        slabs_.emplace_back(page_bytes() * per_slab);
        for (int i = 0; i < per_slab; ++i)
            pages_.push_back(slabs_.back().data() + size_t(i) * page_bytes_);
    }
}

void Cache::require(int page) const {
    if (page < 0 || page >= n_pages()) throw std::invalid_argument("page " + std::to_string(page) + " does not exist");
}

void Cache::copy(int from, int to) {
    require(from);
    require(to);
    if (from != to) std::memcpy(pages_[to], pages_[from], page_bytes());
}

std::span<const uint8_t> Cache::read(int page) const {
    require(page);
    return {pages_[page], page_bytes()};
}

void Cache::write(int page, std::span<const uint8_t> bytes) {
    require(page);
    if (bytes.size() != page_bytes())
        throw std::invalid_argument("a page of this model has " + std::to_string(page_bytes()) + " bytes, not " +
                                    std::to_string(bytes.size()));
    std::memcpy(pages_[page], bytes.data(), bytes.size());
}

void Cache::put_key(const Kernels& kernels, const Place& place, const float* key, uint8_t* scratch) {
    if (type_ == KvType::f16) {
        uint16_t *halves = reinterpret_cast<uint16_t*>(scratch), *to = reinterpret_cast<uint16_t*>(keys(place));
        kernels.to_half(key, value_stride_, halves);
        for (int d = 0; d < head_dim_; ++d) to[d * kPageTokens + place.slot] = halves[d];
        return;
    }
    for (int group = 0; group < key_groups(head_dim_); ++group) {
        int8_t* bytes = reinterpret_cast<int8_t*>(scratch) + group * kBlock;
        key_scales(place)[group * kPageTokens + place.slot] = kernels.to_int8(key + group * kBlock, kBlock, bytes);
    }
    for (int d = 0; d < padded_head(); d += 4) std::memcpy(keys(place) + key_byte(d, place.slot), scratch + d, 4);
}

void Cache::put_value(const Kernels& kernels, const Place& place, const float* value) {
    const size_t at = size_t(place.slot) * value_stride_;
    if (type_ == KvType::f16)
        kernels.to_half(value, value_stride_, reinterpret_cast<uint16_t*>(values(place)) + at);
    else
        value_scales(place)[place.slot] = kernels.to_int8(value, value_stride_, reinterpret_cast<int8_t*>(values(place)) + at);
}

float Cache::key_element(const Place& place, int element) const {
    if (type_ == KvType::f16) return half_to_float(reinterpret_cast<const uint16_t*>(keys(place))[element * kPageTokens + place.slot]);
    const float scale = key_scales(place)[element / kBlock * kPageTokens + place.slot];
    return reinterpret_cast<const int8_t*>(keys(place))[key_byte(element, place.slot)] * scale;
}

}  // namespace madang
