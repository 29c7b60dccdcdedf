#include "../../unix/variant/mpconfigvariant.h"

// Every jump of the bytecode: where an interrupt can come.
void edgelora_faults_jump(void);
#define MICROPY_VM_HOOK_LOOP edgelora_faults_jump();
