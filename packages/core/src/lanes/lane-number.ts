/** Endpoints hash to this many lanes; a lane has one owner at a time. Part of the schema: `lanes` has a row for each. */
export const LANE_COUNT = 64

/** The lane of an endpoint. Endpoint numbers are given in turn, so lanes fill evenly. */
export function laneOf(endpoint: number): number {
  return endpoint % LANE_COUNT
}
