/* A stand-in for libnvidia-ml.so.1 whose answers come from a text file that may change at any time.
 *
 * FAKE_NVML_SCENARIO names the file: lines "key = value", "\xNN" in a value is one byte. It is looked at
 * again at every call, so replacing it (by rename) changes what a program sees that has loaded us already.
 * FAKE_NVML_LOG, where set, names a file to which the name of every called function is appended.
 *
 * A value that is not in the file is not supported (3). A key that is a function's name, with or without
 * "gpu.N." before it and with or without the version at its end, says what the function does instead:
 *     3          returns that code            hang      does not return until the file says otherwise
 *     segv       kills its caller             slow 300  answers as usual, 300 ms later
 *     chatter    prints, and answers as usual         leak 64   answers as usual, 64 KiB heavier
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, VERSION = 25 };
enum { MAX_LINES = 8192, LINE = 512, MIG_STEP = 1000 };

typedef uintptr_t device; /* index + 1 of a GPU, plus MIG_STEP * (index + 1) of a MIG device in it */
typedef unsigned int u32;
typedef unsigned long long u64;

/* ---- the scenario ---- */

static struct { char key[128]; char value[LINE]; } lines[MAX_LINES];
static int line_count;
static struct stat known;
static int initialized;

static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned byte;
        if (from[0] == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
            *to = (char)byte;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

static void refresh(void) {
    const char *path = getenv("FAKE_NVML_SCENARIO");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == known.st_ino && now.st_mtim.tv_sec == known.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == known.st_mtim.tv_nsec && now.st_size == known.st_size) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    char text[LINE + 128];
    line_count = 0;
    while (line_count < MAX_LINES && fgets(text, sizeof text, file)) {
        char *equals = strstr(text, " = ");
        if (text[0] == '#' || !equals) continue;
        *equals = 0;
        equals[3 + strcspn(equals + 3, "\n")] = 0;
        snprintf(lines[line_count].key, sizeof lines[0].key, "%.127s", text);
        snprintf(lines[line_count].value, LINE, "%s", equals + 3);
        unescape(lines[line_count++].value);
    }
    fclose(file);
    known = now;
}

static const char *get(const char *key) {
    for (int i = 0; i < line_count; i++)
        if (!strcmp(lines[i].key, key)) return lines[i].value;
    return NULL;
}

static int gpu_of(device which) { return (int)(which % MIG_STEP) - 1; }
static int mig_of(device which) { return (int)(which / MIG_STEP) - 1; }

static const char *get_of(device which, const char *key) {
    char full[256];
    if (mig_of(which) >= 0) snprintf(full, sizeof full, "gpu.%d.mig.%d.%s", gpu_of(which), mig_of(which), key);
    else snprintf(full, sizeof full, "gpu.%d.%s", gpu_of(which), key);
    return get(full);
}

/* ---- what a function does instead of answering ---- */

static const char *action(const char *function, int gpu) {
    static const char *const suffixes[] = {"", "_v2", "_v3", "V", NULL};
    char base[128], key[256];
    for (int scope = 0; scope < 2; scope++) {
        for (int i = 0; suffixes[i]; i++) {
            size_t keep = strlen(function), cut = strlen(suffixes[i]);
            if (cut > keep || strcmp(function + keep - cut, suffixes[i])) continue;
            snprintf(base, sizeof base, "%.*s", (int)(keep - cut), function);
            if (scope == 0) snprintf(key, sizeof key, "gpu.%d.%s", gpu, base);
            else snprintf(key, sizeof key, "%s", base);
            const char *value = get(key);
            if (value) return value;
        }
    }
    return "0";
}

static int call(const char *function, int gpu) {
    const char *log = getenv("FAKE_NVML_LOG");
    if (log) {
        int to = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (to >= 0) { dprintf(to, "%s\n", function); close(to); }
    }
    refresh();
    const char *what = action(function, gpu);
    while (!strcmp(what, "hang")) {
        usleep(5000);
        refresh();
        what = action(function, gpu);
    }
    if (!strcmp(what, "segv")) *(volatile int *)8 = 0;
    if (!strcmp(what, "chatter")) { puts("the driver feels talkative"); fflush(stdout); return OK; }
    if (!strncmp(what, "leak ", 5)) { /* touched, so that it counts, and never freed */
        size_t size = 1024 * (size_t)atoi(what + 5);
        char *leaked = malloc(size);
        for (size_t at = 0; leaked && at < size; at += 1024) ((volatile char *)leaked)[at] = 1;
        return OK;
    }
    if (!strncmp(what, "slow ", 5)) { usleep(1000 * (useconds_t)atoi(what + 5)); return OK; }
    return atoi(what);
}

static int ask(const char *function, device which) {
    if (!initialized) return UNINITIALIZED;
    return call(function, gpu_of(which));
}

static int text_to(const char *value, char *to, u32 size) {
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) + 1 > size) return TOO_SMALL;
    strcpy(to, value);
    return OK;
}

static int number_to(const char *value, u64 *to) {
    if (!value) return NOT_SUPPORTED;
    *to = strtoull(value, NULL, 0);
    return OK;
}

/* ---- functions of one shape ---- */

#define TEXT(function, key)                                                      \
    int function(device which, char *to, u32 size) {                             \
        int code = ask(#function, which);                                        \
        return code ? code : text_to(get_of(which, key), to, size);              \
    }
#define NUMBER(function, type, key)                                              \
    int function(device which, type *to) {                                       \
        u64 value;                                                               \
        int code = ask(#function, which);                                        \
        if (!code) code = number_to(get_of(which, key), &value);                 \
        if (!code) *to = (type)value;                                            \
        return code;                                                             \
    }
#define WITH_PERIOD(function, key)                                               \
    int function(device which, u32 *to, u32 *period) {                           \
        u64 value;                                                               \
        int code = ask(#function, which);                                        \
        if (!code) code = number_to(get_of(which, key), &value);                 \
        if (!code) { *to = (u32)value; *period = 167000; }                       \
        return code;                                                             \
    }
#define SYSTEM_TEXT(function, key)                                               \
    int function(char *to, u32 size) {                                           \
        int code = ask(#function, 0);                                            \
        return code ? code : text_to(get(key), to, size);                        \
    }

SYSTEM_TEXT(nvmlSystemGetDriverVersion, "driver_version")
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, "nvml_version")
TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
NUMBER(nvmlDeviceGetFanSpeed, u32, "fan_speed")
NUMBER(nvmlDeviceGetPowerUsage, u32, "power_draw")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, u32, "power_limit")
NUMBER(nvmlDeviceGetPowerManagementLimit, u32, "power_limit")
NUMBER(nvmlDeviceGetTotalEnergyConsumption, u64, "energy")
NUMBER(nvmlDeviceGetPerformanceState, u32, "performance_state")
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, u64, "throttle_reasons")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "throttle_reasons")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, u32, "pcie_generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, u32, "pcie_width")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, u32, "pcie_generation_max")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, u32, "pcie_width_max")
NUMBER(nvmlDeviceGetBusType, u32, "bus_type")
NUMBER(nvmlDeviceGetGpuInstanceId, u32, "gpu_instance")
NUMBER(nvmlDeviceGetComputeInstanceId, u32, "compute_instance")
NUMBER(nvmlDeviceGetPersistenceMode, u32, "persistence_mode")
NUMBER(nvmlDeviceGetComputeMode, u32, "compute_mode")
NUMBER(nvmlDeviceGetMaxMigDeviceCount, u32, "mig_slots")
WITH_PERIOD(nvmlDeviceGetEncoderUtilization, "encoder_utilization")
WITH_PERIOD(nvmlDeviceGetDecoderUtilization, "decoder_utilization")

/* ---- functions with a shape of their own ---- */

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    int code = call("nvmlInitWithFlags", -1);
    if (!code) initialized++;
    return code;
}

int nvmlShutdown(void) {
    int code = ask("nvmlShutdown", 0);
    if (!code) initialized--;
    return code;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "said by the fake driver library";
}

int nvmlSystemGetCudaDriverVersion_v2(int *to) {
    u64 value;
    int code = ask("nvmlSystemGetCudaDriverVersion_v2", 0);
    if (!code) code = number_to(get("cuda_version"), &value);
    if (!code) *to = (int)value;
    return code;
}

int nvmlSystemGetCudaDriverVersion(int *to) { return nvmlSystemGetCudaDriverVersion_v2(to); }

int nvmlDeviceGetCount_v2(u32 *to) {
    u64 value;
    int code = ask("nvmlDeviceGetCount_v2", 0);
    if (!code) code = number_to(get("count"), &value);
    if (!code) *to = (u32)value;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, device *to) {
    const char *count;
    int code = ask("nvmlDeviceGetHandleByIndex_v2", index + 1);
    if (code) return code;
    count = get("count");
    if (!count || index >= strtoul(count, NULL, 0)) return INVALID;
    *to = index + 1;
    return OK;
}

int nvmlDeviceGetIndex(device which, u32 *to) {
    int code = ask("nvmlDeviceGetIndex", which);
    if (!code) *to = which - 1;
    return code;
}

struct pci { char legacy[16]; u32 domain, bus, slot, id, subsystem; char bus_id[32]; };

int nvmlDeviceGetPciInfo_v3(device which, struct pci *to) {
    int code = ask("nvmlDeviceGetPciInfo_v3", which);
    if (code) return code;
    memset(to, 0, sizeof *to);
    return text_to(get_of(which, "pci_bus_id"), to->bus_id, sizeof to->bus_id);
}

int nvmlDeviceGetUtilizationRates(device which, u32 to[2]) {
    u64 gpu, memory = 0;
    int code = ask("nvmlDeviceGetUtilizationRates", which);
    if (!code) code = number_to(get_of(which, "utilization"), &gpu);
    if (code) return code;
    (void)number_to(get_of(which, "memory_utilization"), &memory);
    to[0] = (u32)gpu;
    to[1] = (u32)memory;
    return OK;
}

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };

static int memory_of(device which, struct memory_v2 *to) {
    int code = number_to(get_of(which, "memory.total"), &to->total);
    if (!code) code = number_to(get_of(which, "memory.used"), &to->used);
    if (!code) code = number_to(get_of(which, "memory.free"), &to->free);
    if (!code && number_to(get_of(which, "memory.reserved"), &to->reserved)) to->reserved = 0;
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(device which, struct memory_v2 *to) {
    int code = ask("nvmlDeviceGetMemoryInfo_v2", which);
    if (!code && to->version != 0x02000028) code = VERSION;
    return code ? code : memory_of(which, to);
}

int nvmlDeviceGetMemoryInfo(device which, struct memory *to) {
    struct memory_v2 memory;
    int code = ask("nvmlDeviceGetMemoryInfo", which);
    if (!code) code = memory_of(which, &memory);
    if (code) return code;
    to->total = memory.total;
    to->free = memory.free;
    to->used = memory.used + memory.reserved; /* so does the real one */
    return OK;
}

struct temperature { u32 version; u32 sensor; int celsius; };

int nvmlDeviceGetTemperatureV(device which, struct temperature *to) {
    int code = ask("nvmlDeviceGetTemperatureV", which);
    if (code) return code;
    if (to->version != 0x0100000C) return VERSION;
    const char *value = get_of(which, "temperature");
    if (!value) return NOT_SUPPORTED;
    to->celsius = atoi(value);
    return OK;
}

int nvmlDeviceGetTemperature(device which, u32 sensor, u32 *to) {
    u64 value;
    int code = ask("nvmlDeviceGetTemperature", which);
    if (!code && sensor != 0) code = INVALID;
    if (!code) code = number_to(get_of(which, "temperature"), &value);
    if (!code) *to = (u32)value;
    return code;
}

/* ---- values by number ---- */

struct field { u32 id, scope; int64_t timestamp, latency; u32 type, code; union { double d; u32 u; u64 ull; } value; };
enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3, NVLINK_STATE = 165 };

static const struct { u32 id, type; const char *key; } numbered[] = {
    {82, UNSIGNED_INT, "memory_temperature"},   {185, UNSIGNED_INT, "power_average"},
    {186, UNSIGNED_INT, "power_instant"},       {190, UNSIGNED_INT, "power_limit"},
    {83, UNSIGNED_LONG_LONG, "energy"},         {3, UNSIGNED_LONG_LONG, "ecc_corrected"},
    {4, UNSIGNED_LONG_LONG, "ecc_uncorrected"}, {5, UNSIGNED_LONG_LONG, "ecc_corrected_lifetime"},
    {6, UNSIGNED_LONG_LONG, "ecc_uncorrected_lifetime"},
    {142, UNSIGNED_INT, "remapped.0"},          {143, UNSIGNED_INT, "remapped.1"},
    {144, UNSIGNED_INT, "remapped.2"},          {145, UNSIGNED_INT, "remapped.3"},
    {230, UNSIGNED_INT, "recovery_action"},     {91, UNSIGNED_INT, "nvlink_count"},
};

static int link_state(device which, u32 link, u64 *to) {
    u64 links, active = 0;
    int code = number_to(get_of(which, "nvlink_count"), &links);
    if (code) return code;
    (void)number_to(get_of(which, "nvlink_active"), &active);
    *to = link < active;
    return link < links ? OK : INVALID;
}

static int numbered_value(device which, struct field *to, u64 *value) {
    char key[64];
    const char *code;
    snprintf(key, sizeof key, "field.%u.code", to->id);
    if ((code = get_of(which, key)) || (code = get_of(which, "field_code"))) return atoi(code);
    if (to->id == NVLINK_STATE) return link_state(which, to->scope, value);
    for (size_t i = 0; i < sizeof numbered / sizeof numbered[0]; i++) {
        if (numbered[i].id != to->id) continue;
        to->type = numbered[i].type;
        return number_to(get_of(which, numbered[i].key), value);
    }
    return NOT_SUPPORTED;
}

/* Succeeds as a whole where a value fails, as the real one does; what then stands in its place is nonsense. */
int nvmlDeviceGetFieldValues(device which, int count, struct field *to) {
    int code = ask("nvmlDeviceGetFieldValues", which);
    if (code) return code;
    const char *type = get_of(which, "field_type");
    for (int i = 0; i < count; i++) {
        u64 value = 77;
        to[i].type = UNSIGNED_INT;
        to[i].code = (u32)numbered_value(which, &to[i], &value);
        to[i].value.ull = value;
        if (to[i].type == UNSIGNED_INT) to[i].value.ull |= 0xABCDEF0000000000; /* what was there before */
        if (type) to[i].type = (u32)atoi(type);
    }
    return OK;
}

int nvmlDeviceGetNvLinkState(device which, u32 link, u32 *active) {
    u64 value;
    int code = ask("nvmlDeviceGetNvLinkState", which);
    if (!code) code = link_state(which, link, &value);
    if (!code) *active = (u32)value;
    return code;
}

int nvmlDeviceGetRemappedRows(device which, u32 *correctable, u32 *uncorrectable, u32 *pending, u32 *failure) {
    u32 *to[] = {correctable, uncorrectable, pending, failure};
    int code = ask("nvmlDeviceGetRemappedRows", which);
    for (int i = 0; !code && i < 4; i++) {
        char key[16];
        u64 value;
        snprintf(key, sizeof key, "remapped.%d", i);
        code = number_to(get_of(which, key), &value);
        if (!code) *to[i] = (u32)value;
    }
    return code;
}

static int clock_of(const char *function, device which, const char *sm, const char *memory, u32 type, u32 *to) {
    u64 value;
    int code = ask(function, which);
    if (!code) code = number_to(get_of(which, type == 1 ? sm : type == 2 ? memory : "?"), &value);
    if (!code) *to = (u32)value;
    return code;
}

int nvmlDeviceGetClockInfo(device which, u32 type, u32 *to) {
    return clock_of("nvmlDeviceGetClockInfo", which, "sm_clock", "memory_clock", type, to);
}

int nvmlDeviceGetMaxClockInfo(device which, u32 type, u32 *to) {
    return clock_of("nvmlDeviceGetMaxClockInfo", which, "sm_clock_max", "memory_clock_max", type, to);
}

int nvmlDeviceGetTemperatureThreshold(device which, u32 threshold, u32 *to) {
    u64 value;
    int code = ask("nvmlDeviceGetTemperatureThreshold", which);
    if (!code) code = number_to(get_of(which, threshold == 1 ? "slowdown_temperature" : "?"), &value);
    if (!code) *to = (u32)value;
    return code;
}

int nvmlDeviceGetTotalEccErrors(device which, u32 type, u32 counter, u64 *to) {
    static const char *const keys[2][2] = {
        {"ecc_corrected", "ecc_corrected_lifetime"}, {"ecc_uncorrected", "ecc_uncorrected_lifetime"}};
    int code = ask("nvmlDeviceGetTotalEccErrors", which);
    if (!code && (type > 1 || counter > 1)) code = INVALID;
    return code ? code : number_to(get_of(which, keys[type][counter]), to);
}

/* ---- Xids: "xid.0 = 3 79" is one of GPU 3; those that were there before the set was made are not told ---- */

enum { MAX_GPUS = 256, XID = 8 };
static struct { int next, made; char watches[MAX_GPUS]; } event_set;
struct event { device which; u64 type, data; u32 gpu_instance, compute_instance; };

static int xid(int place, int *gpu, u64 *code) {
    char key[32];
    snprintf(key, sizeof key, "xid.%d", place);
    const char *line = get(key);
    return line && sscanf(line, "%d %llu", gpu, code) == 2;
}

int nvmlEventSetCreate(void **set) {
    int gpu, code = ask("nvmlEventSetCreate", 0);
    u64 number;
    if (code) return code;
    memset(&event_set, 0, sizeof event_set);
    while (xid(event_set.next, &gpu, &number)) event_set.next++;
    event_set.made = 1;
    *set = &event_set;
    return OK;
}

int nvmlDeviceRegisterEvents(device which, u64 types, void *set) {
    int code = ask("nvmlDeviceRegisterEvents", which);
    if (code) return code;
    if (types != XID || set != &event_set || !event_set.made) return INVALID;
    event_set.watches[gpu_of(which) % MAX_GPUS] = 1;
    return OK;
}

int nvmlEventSetWait_v2(void *set, struct event *to, u32 timeout) {
    int gpu, code = ask("nvmlEventSetWait_v2", 0);
    u64 number;
    (void)timeout;
    if (code) return code;
    if (set != &event_set || !event_set.made) return INVALID;
    while (xid(event_set.next, &gpu, &number)) {
        event_set.next++;
        if (gpu < 0 || gpu >= MAX_GPUS || !event_set.watches[gpu]) continue;
        *to = (struct event){(device)gpu + 1, XID, number, ~0U, ~0U};
        return OK;
    }
    return TIMEOUT;
}

int nvmlEventSetFree(void *set) {
    int code = ask("nvmlEventSetFree", 0);
    if (!code && set == &event_set) event_set.made = 0;
    return code;
}

/* ---- MIG ---- */

int nvmlDeviceGetMigMode(device which, u32 *current, u32 *pending) {
    u64 value;
    int code = ask("nvmlDeviceGetMigMode", which);
    if (!code) code = number_to(get_of(which, "mig_mode"), &value);
    if (!code) *current = *pending = (u32)value;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device which, u32 index, device *to) {
    int code = ask("nvmlDeviceGetMigDeviceHandleByIndex", which);
    if (code) return code;
    *to = which + MIG_STEP * (index + 1);
    return get_of(*to, "uuid") ? OK : NOT_FOUND;
}

struct attributes { u32 multiprocessors, copies, decoders, encoders, jpegs, ofas, slices, compute_slices; u64 mebibytes; };

int nvmlDeviceGetAttributes_v2(device which, struct attributes *to) {
    u64 slices, mebibytes;
    int code = ask("nvmlDeviceGetAttributes_v2", which);
    if (!code) code = number_to(get_of(which, "slices"), &slices);
    if (!code) code = number_to(get_of(which, "memory.total"), &mebibytes);
    if (code) return code;
    memset(to, 0, sizeof *to);
    to->slices = to->compute_slices = (u32)slices;
    to->mebibytes = mebibytes >> 20;
    return OK;
}

/* ---- processes: 24 bytes each, or 32 as the drivers 535.43 to 535.86 had them, or 16 in the first form ---- */

struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };

enum { FIRST_FORM = 16 };

static int processes(const char *function, device which, char kind, size_t size, u32 *count, char *to) {
    u32 found = 0, room = *count;
    int code = ask(function, which);
    if (code) return code;
    for (int i = 0;; i++) {
        char key[64], memory[32], type[32];
        unsigned pid;
        snprintf(key, sizeof key, "process.%d", i);
        const char *line = get_of(which, key);
        if (!line || sscanf(line, "%u %31s %31s", &pid, memory, type) != 3) break;
        if (type[0] != kind) continue;
        if (to && found < room) {
            struct process entry = {pid, memory[0] == '-' ? ~0ULL : strtoull(memory, NULL, 0), ~0U, ~0U};
            memset(to + found * size, 0, size);
            memcpy(to + found * size, &entry, size < sizeof entry ? size : sizeof entry);
        }
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}

static size_t entry_size(device which) {
    const char *size = get_of(which, "process_entry_bytes");
    return size ? strtoul(size, NULL, 0) : sizeof(struct process);
}

#define PROCESSES(function, kind, size)                                          \
    int function(device which, u32 *count, char *to) {                           \
        return processes(#function, which, kind, size, count, to);               \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 'c', entry_size(which))
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 'c', sizeof(struct process))
PROCESSES(nvmlDeviceGetComputeRunningProcesses, 'c', FIRST_FORM)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 'g', entry_size(which))
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 'g', sizeof(struct process))
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, 'g', FIRST_FORM)

/* ---- how busy processes keep a GPU: what is newer than asked for, and what is no sample at all (moment 0) ---- */

struct share { u32 pid; u64 moment; u32 sm, memory, encoder, decoder; };

int nvmlDeviceGetProcessUtilization(device which, struct share *to, u32 *count, u64 since) {
    u32 found = 0, room = to ? *count : 0;
    int code = ask("nvmlDeviceGetProcessUtilization", which);
    if (!code && !get_of(which, "shares")) code = NOT_SUPPORTED;
    if (code) return code;
    for (int i = 0;; i++) {
        char key[64];
        struct share entry = {0};
        snprintf(key, sizeof key, "share.%d", i);
        const char *line = get_of(which, key);
        if (!line || sscanf(line, "%u %llu %u", &entry.pid, &entry.moment, &entry.sm) != 3) break;
        if (entry.moment && entry.moment <= since) continue;
        if (found < room) to[found] = entry;
        found++;
    }
    if (!found) return NOT_FOUND;
    *count = found;
    const char *least = get_of(which, "shares_room");
    return found > room || (least && room < strtoul(least, NULL, 0)) ? TOO_SMALL : OK;
}
