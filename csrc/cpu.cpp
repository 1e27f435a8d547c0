#include "cpu.h"

#include <stdexcept>

#if defined(MADANG_X86)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(MADANG_ARM64)
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

namespace madang {

namespace {

struct Candidate {
    const Kernels* kernels;
    bool usable;
};

#if defined(MADANG_X86)
struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
#if defined(_MSC_VER)
    int values[4];
    __cpuidex(values, int(leaf), int(subleaf));
    r = {unsigned(values[0]), unsigned(values[1]), unsigned(values[2]), unsigned(values[3])};
#else
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
    return r;
}

// Which register files the operating system saves (XCR0): bits 1-2 are YMM, 5-7 are ZMM.
unsigned saved_state() {
    if (!(cpuid(1, 0).ecx >> 27 & 1)) return 0;
#if defined(_MSC_VER)
    return unsigned(_xgetbv(0));
#else
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

std::vector<Candidate> candidates() {
    const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
    const unsigned state = saved_state();
    const auto bit = [](unsigned value, int n) { return (value >> n & 1) != 0; };
    const bool avx2 = (state & 0x06) == 0x06 && bit(basic.ecx, 12) && bit(basic.ecx, 29) && bit(extended.ebx, 5);
    const bool avx512 = avx2 && (state & 0xe6) == 0xe6 && bit(extended.ebx, 16) && bit(extended.ebx, 17) &&
                        bit(extended.ebx, 30) && bit(extended.ebx, 31) && bit(extended.ecx, 11);
    return {
        {&kAvx512Bf16, avx512 && bit(more.eax, 5)},
        {&kAvx512, avx512},
        {&kAvx2Vnni, avx2 && bit(more.eax, 4)},
        {&kAvx2, avx2},
        {&kPortable, true},
    };
}
#elif defined(MADANG_ARM64)
bool has_dot_product() {
#if defined(__APPLE__)
    int value = 0;
    size_t size = sizeof(value);
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value != 0;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return false;
#endif
}

std::vector<Candidate> candidates() { return {{&kNeon, has_dot_product()}, {&kPortable, true}}; }
#else
std::vector<Candidate> candidates() { return {{&kPortable, true}}; }
#endif

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Candidate& candidate : candidates())
        if (candidate.usable) names.emplace_back(candidate.kernels->name);
    return names;
}

const Kernels& select_kernels(const std::string& isa) {
    std::string names;
    for (const Candidate& candidate : candidates()) {
        if (!candidate.usable) continue;
        if (isa.empty() || isa == candidate.kernels->name) return *candidate.kernels;
        names += names.empty() ? candidate.kernels->name : std::string(", ") + candidate.kernels->name;
    }
    throw std::invalid_argument("instruction set '" + isa + "' cannot run here; this machine has " + names);
}

}  // namespace madang
