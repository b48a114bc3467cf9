#include "kernels.hpp"

namespace fercore::FERCORE_LEVEL {

const Table table = {
#define FERCORE_MEMBER(name) name,
    FERCORE_KERNELS(FERCORE_MEMBER)
#undef FERCORE_MEMBER
};

}  // namespace fercore::FERCORE_LEVEL
