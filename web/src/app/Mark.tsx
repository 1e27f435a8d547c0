/** A roof over a yard: madang. */
export function Mark({ size = 34 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" fill="#1c6b4a" />
      <g fill="none" stroke="#fff" strokeWidth="2.4" strokeLinecap="round" strokeLinejoin="round">
        <path d="M6 14 16 7l10 7" />
        <path d="M9.5 17.5v7h13v-7" />
      </g>
      <circle cx="16" cy="19" r="2.1" fill="#fff" />
    </svg>
  );
}
