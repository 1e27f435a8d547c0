#include "cache.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace madang {

namespace {
constexpr size_t kSlabBytes = size_t(8) << 20;  // growth: a few huge pages at a time
}

Cache::Cache(const DecoderShape& shape)
    : n_kv_heads_(shape.n_kv_heads), value_stride_(int(round_up(shape.head_dim, kLanes))),
      key_elements_(size_t(kPageTokens) * shape.head_dim),
      head_elements_(key_elements_ + size_t(kPageTokens) * value_stride_),
      page_elements_(head_elements_ * shape.n_kv_heads * shape.n_layers) {}

void Cache::reserve(int n) {
    const int per_slab = std::max<int>(1, int(kSlabBytes / page_bytes()));
    while (n_pages() < n) {
        slabs_.emplace_back(page_bytes() * per_slab);
        for (int i = 0; i < per_slab; ++i)
            pages_.push_back(reinterpret_cast<uint16_t*>(slabs_.back().data()) + size_t(i) * page_elements_);
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
    return {reinterpret_cast<const uint8_t*>(pages_[page]), page_bytes()};
}

void Cache::write(int page, std::span<const uint8_t> bytes) {
    require(page);
    if (bytes.size() != page_bytes())
        throw std::invalid_argument("a page of this model has " + std::to_string(page_bytes()) + " bytes, not " +
                                    std::to_string(bytes.size()));
    std::memcpy(pages_[page], bytes.data(), bytes.size());
}

}  // namespace madang
