/** What processes have used, from `/proc` (Linux; zero elsewhere, and the tables say so). */
import { existsSync, readFileSync } from 'node:fs'

/** Linux reports CPU time in these, whatever the kernel's own tick (`sysconf(_SC_CLK_TCK)`). */
const TICKS_PER_SECOND = 100

export const canMeasureUsage = existsSync('/proc/self/stat')

/** CPU seconds of a process with all its threads, without its children. */
export function cpuSeconds(pid: number): number {
  const fields = statFields(pid)
  return fields === null ? 0 : (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** CPU seconds of a process, of its children that live, and of those that have ended. */
export function treeCpuSeconds(pid: number): number {
  const fields = statFields(pid)
  if (fields === null) return 0
  const ended = (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND
  return childrenOf(pid).reduce((sum, child) => sum + cpuSeconds(child), cpuSeconds(pid) + ended)
}

/** The resident size of a process in MB (10^6 bytes). */
export function memoryMb(pid: number): number {
  return statusMb(pid, /^VmRSS:\s+(\d+) kB/m)
}

/** The largest resident size that a process has had. */
export function peakMemoryMb(pid: number): number {
  return statusMb(pid, /^VmHWM:\s+(\d+) kB/m)
}

function statusMb(pid: number, line: RegExp): number {
  return (Number(line.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0) * 1024) / 1e6
}

/** Seconds that all processes of the machine together have used, and the load of others is the difference to ours. */
export function machineCpuSeconds(): number {
  const fields = (read('/proc/stat') ?? '').split('\n')[0]?.trim().split(/\s+/).slice(1).map(Number) ?? []
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = fields
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND
}

/** The fields of `/proc/<pid>/stat` after the name, which may hold spaces and parentheses. */
function statFields(pid: number): string[] | null {
  const stat = read(`/proc/${pid}/stat`)
  return stat === null ? null : stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function childrenOf(pid: number): number[] {
  return (read(`/proc/${pid}/task/${pid}/children`) ?? '').trim().split(' ').filter(Boolean).map(Number)
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
