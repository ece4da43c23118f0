// mblm serve in a build without the HTTP library.
#include "engine/error.h"
#include "program/program.h"

namespace mblm {

int run(const ServeCommand&) { throw Error("serve: this program was built without cpp-httplib; install it (Debian: libcpp-httplib-dev) and build again"); }

}  // namespace mblm
