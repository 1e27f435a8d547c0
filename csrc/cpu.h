// Which instruction sets this processor and operating system offer, and the kernels for them.
#pragma once
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace madang {

// Names of the kernel tables that can run here, best first; "portable" is always last.
std::vector<std::string> available_isas();

// The table of that name, or the best one for an empty name. Throws std::invalid_argument when it cannot run here.
const Kernels& select_kernels(const std::string& isa);

}  // namespace madang
