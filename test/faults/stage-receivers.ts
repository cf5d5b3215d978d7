/** The receivers of a stage: each a process at a port of its own, with a file of what it received. */
import { join } from 'node:path'
import { type StageProcess, startProcess } from './ipc.ts'
import type { ReceiverMode, ReceiverOrder, ReceiverSettings, ReceiverTold } from './processes/receiver.ts'

export interface ReceiverSlot {
  port: number
  logFile: string
  process: StageProcess<ReceiverOrder, ReceiverTold> | null
}

export class StageReceivers {
  readonly slots: ReceiverSlot[] = []

  async raise(ports: readonly number[], folder: string): Promise<void> {
    for (const [index, port] of ports.entries()) {
      this.slots.push({ port, logFile: join(folder, `receiver-${index}.log`), process: null })
      await this.start(index)
    }
  }

  async start(index: number): Promise<void> {
    const { port, logFile } = this.slots[index]!
    this.slots[index]!.process = await startProcess<ReceiverOrder, ReceiverTold>('receiver.ts', {
      port,
      logFile,
    } satisfies ReceiverSettings)
  }

  async setMode(endpoints: readonly { receiver: number; path: string }[], mode: ReceiverMode): Promise<void> {
    for (const { receiver, path } of endpoints) {
      await this.slots[receiver]!.process?.order({ do: 'mode', path, mode }).catch(() => {})
    }
  }

  async tell(order: ReceiverOrder): Promise<void> {
    for (const { process } of this.slots) await process?.order(order).catch(() => {})
  }

  async strike(): Promise<void> {
    await Promise.all(this.slots.map(({ process }) => process?.kill()))
  }
}
