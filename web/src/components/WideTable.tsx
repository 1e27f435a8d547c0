import { Table } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./WideTable.module.css";

interface Props {
  label: string;
  heads: readonly string[];
  children: ReactNode;
}

/** A table of figures that is scrolled sideways where it does not fit, with the keyboard too. */
export function WideTable({ label, heads, children }: Props) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled with the keyboard too
    <div className={classes.wide} role="group" aria-label={label} tabIndex={0}>
      <Table className={classes.table ?? ""} style={{ minWidth: heads.length * 92 }} verticalSpacing={7}>
        <Table.Thead>
          <Table.Tr>
            {heads.map((head) => (
              <Table.Th key={head} scope="col">
                {head}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>{children}</Table.Tbody>
      </Table>
    </div>
  );
}
