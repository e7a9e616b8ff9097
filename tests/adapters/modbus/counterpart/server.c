/* A Modbus server made with libmodbus, as a counterpart that knows nothing of this project.
 *
 *   server tcp        listens on a free loopback port and prints "ready PORT"
 *   server rtu DEVICE answers as unit 7 on a serial line and prints "ready"
 *
 * Every request prints its function code. A pseudo terminal knows no parity.
 */
#include <arpa/inet.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Registers with the bytes of a float (0 is the most significant) in this order on the wire. The library's functions
 * with the orders in their names differ between versions in what they call ABCD. */
static void set_float(uint16_t *registers, float value, int first, int second, int third, int fourth)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t bytes[4] = {bits >> 24, bits >> 16, bits >> 8, bits};
    registers[0] = bytes[first] << 8 | bytes[second];
    registers[1] = bytes[third] << 8 | bytes[fourth];
}

static modbus_mapping_t *make_registers(void)
{
    /* coils 0-1999, discrete inputs 0-31, holding 0-199, input 100-149: anything else is exception 02 */
    modbus_mapping_t *map = modbus_mapping_new_start_address(0, 2000, 0, 32, 0, 200, 100, 50);
    if (map == NULL)
        exit(3);
    for (int i = 0; i < 2000; i++)
        map->tab_bits[i] = i % 3 == 0;
    map->tab_input_bits[5] = 1;
    for (int i = 0; i < 50; i++)
        map->tab_input_registers[i] = 1000 + i;
    uint16_t *holding = map->tab_registers;
    holding[0] = 0xFFFE;                               /* -2 */
    holding[1] = 0x8000;
    set_float(holding + 10, -12.375f, 0, 1, 2, 3);     /* ABCD */
    modbus_set_float(3.5e6f, holding + 12);            /* CDAB, as the library has always done it */
    set_float(holding + 14, 0.1f, 1, 0, 3, 2);         /* BADC */
    set_float(holding + 16, 230.25f, 3, 2, 1, 0);      /* DCBA */
    MODBUS_SET_INT32_TO_INT16(holding, 20, -123456);
    MODBUS_SET_INT64_TO_INT16(holding, 24, -9876543210LL);
    MODBUS_SET_INT32_TO_INT16(holding, 30, 1700000000);
    holding[40] = 0x1234;
    for (int i = 100; i < 200; i++)
        holding[i] = i;
    return map;
}

static void answer(modbus_t *bus, modbus_mapping_t *map)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int header = modbus_get_header_length(bus);
    for (;;) {
        int length = modbus_receive(bus, query);
        if (length == -1)
            return;
        if (length > 0) {
            printf("%d\n", query[header]);
            fflush(stdout);
            modbus_reply(bus, query, length, map);
        }
    }
}

int main(int argc, char **argv)
{
    modbus_mapping_t *map = make_registers();
    if (argc > 2 && strcmp(argv[1], "rtu") == 0) {
        modbus_t *bus = modbus_new_rtu(argv[2], 19200, 'N', 8, 1);
        modbus_set_slave(bus, 7);
        if (bus == NULL || modbus_connect(bus) == -1)
            return 4;
        printf("ready\n");
        fflush(stdout);
        for (;;)
            answer(bus, map);
    }
    modbus_t *bus = modbus_new_tcp("127.0.0.1", 0);
    int listener = modbus_tcp_listen(bus, 4);
    if (listener == -1)
        return 5;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        modbus_tcp_accept(bus, &listener);
        answer(bus, map);
        modbus_close(bus);
    }
}
