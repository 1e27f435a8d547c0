import { ActionIcon, Drawer, UnstyledButton } from "@mantine/core";
import { useDisclosure, useMediaQuery } from "@mantine/hooks";
import { IconMenu2 } from "@tabler/icons-react";
import { Suspense } from "react";
import { Link, useLocation } from "wouter";
import { EmptyState, LoadingState } from "@/components/States";
import { useText } from "@/i18n";
import { ErrorBoundary } from "./ErrorBoundary";
import { Mark } from "./Mark";
import { ServerBanner } from "./ServerBanner";
import classes from "./Shell.module.css";
import { SCREENS, type ScreenName, screenOf } from "./screens";
import { type Shortcut, useShortcut } from "./shortcuts";

/** Where the layout of a narrow window begins; the style sheets have the same number. */
export const NARROW = "(max-width: 48em)";

export function Shell() {
  const text = useText();
  const [path] = useLocation();
  const current = screenOf(path);
  const [isMenuOpen, menu] = useDisclosure(false);
  const isNarrow = useMediaQuery(NARROW, window.matchMedia(NARROW).matches);
  return (
    <div className={classes.shell}>
      <a className={classes.skip} href="#main">
        {text.app.skip}
      </a>
      {isNarrow ? (
        <>
          <header className={classes.top}>
            <ActionIcon size="lg" aria-label={text.app.menu} onClick={menu.open}>
              <IconMenu2 size={20} stroke={1.6} />
            </ActionIcon>
            <span className={classes.here}>{current === null ? text.app.name : text.screens[current]}</span>
            {/* What a screen needs up here, as the chat's list of conversations. */}
            <div id="top-actions" className={classes.topActions} />
          </header>
          <Drawer
            opened={isMenuOpen}
            onClose={menu.close}
            size={240}
            title={text.app.name}
            closeButtonProps={{ "aria-label": text.app.close }}
          >
            <Navigation current={current} isWide onChosen={menu.close} />
          </Drawer>
        </>
      ) : (
        <section className={classes.rail} aria-label={text.app.name}>
          <Link href="/chat" className={classes.mark} aria-label={text.app.name}>
            <Mark />
          </Link>
          <Navigation current={current} />
        </section>
      )}
      <main id="main" className={classes.main} tabIndex={-1}>
        <ServerBanner />
        <div className={classes.content}>
          <ErrorBoundary of={current ?? ""}>
            <Suspense fallback={<LoadingState />}>
              <CurrentScreen name={current} />
            </Suspense>
          </ErrorBoundary>
        </div>
      </main>
      {SCREENS.map((screen, index) => (
        <ScreenShortcut key={screen.name} name={screen.name} shortcut={`alt+${index + 1}`} />
      ))}
    </div>
  );
}

function CurrentScreen({ name }: { name: ScreenName | null }) {
  const text = useText();
  const screen = SCREENS.find((one) => one.name === name);
  if (screen === undefined) {
    return <EmptyState title={text.app.notFound} action={<Link href="/chat">{text.app.toChat}</Link>} />;
  }
  const Part = screen.part;
  return <Part />;
}

function ScreenShortcut({ name, shortcut }: { name: ScreenName; shortcut: Shortcut }) {
  const [, go] = useLocation();
  useShortcut(shortcut, () => go(`/${name}`));
  return null;
}

interface NavigationProps {
  current: ScreenName | null;
  isWide?: boolean;
  onChosen?: () => void;
}

function Navigation({ current, isWide = false, onChosen }: NavigationProps) {
  const text = useText();
  return (
    <nav className={classes.navigation} aria-label={text.app.navigation} data-wide={isWide || undefined}>
      {SCREENS.map(({ name, icon: Icon }) => {
        const chosen = name === current;
        return (
          <UnstyledButton
            key={name}
            component={Link}
            href={`/${name}`}
            className={classes.item}
            data-chosen={chosen || undefined}
            aria-current={chosen ? "page" : undefined}
            {...(onChosen !== undefined && { onClick: onChosen })}
          >
            <Icon size={isWide ? 20 : 21} stroke={1.6} aria-hidden />
            <span>{text.screens[name]}</span>
          </UnstyledButton>
        );
      })}
    </nav>
  );
}
